"""Clients of other people's, as they were published, for the tests: the Inspector, and the TypeScript SDK.

After a change of `package.json`: `npm install --package-lock-only --omit-lockfile-registry-resolved`, and the pin in
``compose/local/programs.py``.
"""
