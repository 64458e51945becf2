"""Other people's servers that ours are measured against, from npm.

After a change of `package.json`: `npm install --package-lock-only --omit-lockfile-registry-resolved`, and the pin in
``compose/local/programs.py``.
"""
