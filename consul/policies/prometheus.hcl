# Prometheus: finds what to scrape in the catalog, and nothing else.
service_prefix "" {
  policy = "read"
}
node_prefix "" {
  policy = "read"
}
