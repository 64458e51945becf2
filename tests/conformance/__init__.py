"""The protocol's own conformance suite, and what it is run against.

`package.json` and its lock pin the suite, `explained.yml` and `legacy.yml` list what it finds and why that must be so.
After a change of `package.json`: `npm install --package-lock-only --omit-lockfile-registry-resolved`, and the pin in
`compose/local/programs.py`.
"""
