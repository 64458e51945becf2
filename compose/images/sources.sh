#!/bin/sh
# Lays out what each image holds of our own source, one folder an image under /apps, with its bytecode.
#   sources.sh VERSION
set -eu
version=$1
export LC_ALL=C PYTHONHASHSEED=0
services="browser filesystem search hub bridge"

rm -rf observability/dashboards observability/grafana/check compose/images/locks compose/images/osv-scanner
find traefik -name '*_test.go' -delete
# Hashes are looked at: whoever puts other source there, as in development, gets that.
python3 -m compileall -q --invalidation-mode checked-hash -s "$PWD" -p /app .
find . -exec touch --no-dereference --date=@315532800 {} +
chmod -R u=rwX,go=rX .

for name in $services; do
    mkdir -p "/apps/$name/services" "/apps/$name/observability"
    cp -a services/__init__.py services/__pycache__ services/common "services/$name" "/apps/$name/services/"
    cp -a observability/__init__.py observability/telemetry "/apps/$name/observability/"
done
mkdir /apps/control-plane
cp -a control_plane compose consul traefik observability pyproject.toml /apps/control-plane/

# So that the parts know what they are: see observability/telemetry/about.py.
for name in $services control-plane; do
    about=/apps/$name/tekup_mcp-$version.dist-info
    mkdir "$about"
    printf 'Metadata-Version: 2.1\nName: tekup-mcp\nVersion: %s\n' "$version" > "$about/METADATA"
done
mkdir /empty
# Mount points: a new volume takes over whose the folder is.
for place in keep/.tekup/gate keep/.tekup/gate-2 keep/.tekup/gate-3 workspace tls alert-secrets history \
    data/consul data/consul-agent-2 data/consul-agent-3 data/consul-1 data/consul-2 data/consul-3 \
    data/prometheus data/rules data/receivers data/alertmanager data/loki data/jaeger data/collector data/grafana \
    given/consul given/consul-agent-2 given/consul-agent-3 given/consul-1 given/consul-2 given/consul-3 given/control-plane given/gate given/gate-2 given/gate-3 \
    given/certificate given/keeper given/operators-gate given/browser given/egress given/filesystem given/search given/hub \
    given/prometheus given/alertmanager given/loki given/jaeger given/collector; do
    mkdir -p "/volumes/$place"
done
# Those of servers of other people have no names yet (compose/containers/setup.py).
for number in $(seq 32); do
    mkdir -p "/volumes/given/bridged-$number"
done
chmod g+w /volumes/data/collector # it runs as the owner of the engine's log files, in the group of everybody else
find /apps /empty /volumes \( -type d -o -name METADATA \) -exec touch --date=@315532800 {} +
