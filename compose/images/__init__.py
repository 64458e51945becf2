"""The container images of the platform's own programs: what goes into each, how they are built, how large they may be.

`python -m compose.images` does it; `make images` calls it.
"""
