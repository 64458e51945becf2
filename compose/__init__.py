"""Environments: the same programs as local processes (`compose.local`) or, later, in containers."""
