"""The protocol's own conformance suite, and what it is run against.

`package.json` and its lock pin the suite, `explained.yml` and `legacy.yml` list what it finds and why that must be so.
"""
