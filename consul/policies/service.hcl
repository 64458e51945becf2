# One service's instances: their own registration and leaf certificate, and nothing of anybody else.
# ${service}: the service. Keys, policy, sessions, other registrations: none.
service "mcp-${service}" {
  policy     = "write"
  intentions = "read"
}
