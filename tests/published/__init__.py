"""Other people's MCP servers, as they were published, for the tests of the bridge.

`new.lock` holds those that live with the SDK's second major version, `old.lock` those that need its first. After a
change of versions: `uv pip compile --no-build --universal --generate-hashes`, `npm install --package-lock-only
--omit-lockfile-registry-resolved`, and the pins in ``compose/local/programs.py``.
"""
