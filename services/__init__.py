"""The MCP services: thin modules of tools on one kit (`services.common`)."""
