#!/bin/sh
# Puts the packages of somebody else's server into /server, of the versions and digests that its lock says.
set -eu
cd /server
export HOME=/tmp/home
if [ -s /run/ca.pem ]; then
    export SSL_CERT_FILE=/run/ca.pem NODE_EXTRA_CA_CERTS=/run/ca.pem
fi
found=
if [ -f package-lock.json ]; then
    npm ci --omit=dev --ignore-scripts --no-audit --no-fund --cache=/tmp/home/npm
    found=npm
fi
if [ -f requirements.lock ]; then
    uv venv --quiet --no-config --python /usr/bin/python3 .venv
    uv pip install --quiet --no-config --python .venv/bin/python --no-build --no-deps --require-hashes -r requirements.lock
    found=uv
fi
[ -n "$found" ] || echo "no package-lock.json or requirements.lock: nothing is installed"
rm -rf /tmp/home
chmod -R go=rX .
