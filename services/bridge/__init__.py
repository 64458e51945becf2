"""Bridges: somebody else's MCP server, over stdio or at a URL, as a service of its own name and version.

One process is one instance of one bridged service. The child it runs knows nothing of the platform and gets none of its
secrets; whatever the child does, its callers get an answer in bounded time and nothing of it is left behind.
"""
