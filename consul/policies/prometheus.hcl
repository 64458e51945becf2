# Prometheus: finds what to scrape in the catalog, and reads the metrics of Consul itself.
service_prefix "" {
  policy = "read"
}
node_prefix "" {
  policy = "read"
}
agent_prefix "" {
  policy = "read"
}
