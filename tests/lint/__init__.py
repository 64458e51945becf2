"""Linters of Dockerfile and Compose files: `make lint-containers`."""
