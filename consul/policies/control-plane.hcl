# Every replica of the control plane. The fence on `tekup/leader` says which of them may write; this says what.
key_prefix "tekup/" {
  policy = "write"
}
session_prefix "" {
  policy = "write"
}
# Registrations are their instances'. Writing here is for taking out a rogue or dead one, the audited exception.
service_prefix "mcp-" {
  policy     = "write"
  intentions = "write"
}
# Its own certificate, for its calls through gates. Without the second line it might not write intentions for all.
service "tekup-control-plane" {
  policy     = "write"
  intentions = "write"
}
# Who may call whom, the wildcard included.
service_prefix "" {
  policy     = "read"
  intentions = "write"
}
node_prefix "" {
  policy = "read"
}
