# People and their tools, reading: the catalog, and the documents of policy and rollouts.
# Left out on purpose: `tekup/keys/` (hashes of API keys) and `tekup/state/pending/` (changes under way, keys among them).
service_prefix "" {
  policy     = "read"
  intentions = "read"
}
node_prefix "" {
  policy = "read"
}
session_prefix "" {
  policy = "read"
}
key_prefix "tekup/policy/" {
  policy = "read"
}
key_prefix "tekup/gates/" {
  policy = "read"
}
key_prefix "tekup/replicas/" {
  policy = "read"
}
key "tekup/leader" {
  policy = "read"
}
key_prefix "tekup/state/history" {
  policy = "read"
}
key_prefix "tekup/state/rollouts" {
  policy = "read"
}
key_prefix "tekup/state/autoscale" {
  policy = "read"
}
