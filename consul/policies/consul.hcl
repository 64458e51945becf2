# The Consul agent itself, on ${node}: its own node, and what is needed to keep the catalog as it has been told.
node "${node}" {
  policy = "write"
}
service_prefix "" {
  policy = "read"
}
