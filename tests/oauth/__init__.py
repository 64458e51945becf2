"""A real authorization server for the tests: npm's `oidc-provider`, run by ``server.mjs``.

`package-lock.json` pins every package by its integrity and names no registry. After a change of `package.json`:
`npm install --package-lock-only --omit-lockfile-registry-resolved`, and the pin in ``compose/local/programs.py``.
"""
