# Whoever starts and stops containers: reads how many there should be and who passes, and says how things are.
key_prefix "tekup/state/autoscale/" {
  policy = "read"
}
key_prefix "tekup/state/deployments/" {
  policy = "read"
}
key "tekup/state/keeper" {
  policy = "write"
}
service_prefix "mcp-" {
  policy = "read"
}
node_prefix "" {
  policy = "read"
}
