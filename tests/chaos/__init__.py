"""Faults under load, and an account of every call: `make chaos`."""
