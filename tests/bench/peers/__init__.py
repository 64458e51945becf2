"""Other people's servers and gateways that ours are measured against: from npm, from PyPI (`*.lock`), from Go modules.

After a change of `package.json`: `npm install --package-lock-only --omit-lockfile-registry-resolved`, and the pin in
``compose/local/programs.py``. Of `vmcp`, ToolHive's virtual server: `go get -tool
github.com/stacklok/toolhive/cmd/vmcp@VERSION` in its folder, and the pin in the same table.
"""
