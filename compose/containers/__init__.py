"""What runs inside containers besides the platform's own processes: preparing an environment, and proving it.

`docs/containers.md` describes the environments; the Compose files are in `compose/`.
"""
