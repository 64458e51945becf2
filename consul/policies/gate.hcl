# The agent beside one Traefik. ${gate}: the gate's id; ${node}: the Consul node it runs on.
# Reads what it puts in force, writes its own record under a session of its own node. Traefik itself has no token.
key_prefix "tekup/policy/" {
  policy = "read"
}
key_prefix "tekup/keys/" {
  policy = "read"
}
key "tekup/gates/${gate}" {
  policy = "write"
}
session "${node}" {
  policy = "write"
}
service_prefix "mcp-" {
  policy = "read"
}
# Its registration, and the certificate that proves it to services.
service "tekup-gate" {
  policy     = "write"
  intentions = "read"
}
node_prefix "" {
  policy = "read"
}
