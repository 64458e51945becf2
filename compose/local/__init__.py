"""The local environment: outside programs, settings, supervisor and the `tekup up` family of commands.

What belongs here: finding and building programs, starting, watching and stopping processes. What does
not: any knowledge of MCP beyond the first call, and any policy (that is the control plane's).
"""
