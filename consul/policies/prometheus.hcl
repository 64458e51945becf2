# Prometheus: finds what to scrape in the catalog, and reads the metrics of Consul itself. Beside it, the keeper of
# operators' alert rules and receivers reads them, and whether they are whole.
key_prefix "tekup/rules/" {
  policy = "read"
}
key_prefix "tekup/receivers/" {
  policy = "read"
}
key "tekup/policy/revision" {
  policy = "read"
}
service_prefix "" {
  policy = "read"
}
node_prefix "" {
  policy = "read"
}
agent_prefix "" {
  policy = "read"
}
