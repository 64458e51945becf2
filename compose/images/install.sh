#!/bin/sh
# Installs a lock into /opt/tekup, and leaves what that added there under /added, so that it becomes a layer of its own.
#   install.sh LOCK
# The same lock gives the same files: bytecode says nothing of times, and all are of one date.
set -eu
lock=$1
root=/opt/tekup
export LC_ALL=C PYTHONHASHSEED=0

[ -d $root ] || uv venv --quiet --python /usr/bin/python3 $root
[ -f /known ] || : > /known
cd $root
uv pip install --quiet --python bin/python --no-build --no-deps --require-hashes --requirement "$lock"

# What nobody runs there: activation for shells, commands of libraries, their tests, their own
# lists of requirements, and what uv notes for itself.
find bin ! -type d ! -name 'python*' ! -name rg -delete
find . -maxdepth 1 -name '*.txt' -delete
find lib -depth -type d -name tests -exec rm -rf {} +
find . \( -name uv_cache.json -o -name REQUESTED -o -name .lock -o -name .gitignore -o -name CACHEDIR.TAG \) -delete

new() { find . ! -type d | sort | comm -13 /known -; }
new | grep '\.py$' > /sources || :
# One process: two would race for what is shared between modules, and give other bytes.
[ ! -s /sources ] || bin/python -m compileall -q --invalidation-mode unchecked-hash -i /sources
new > /new
find . ! -type d | sort > /known
rm -rf /added && mkdir /added
tar -cf - --mtime=@315532800 --files-from=/new | tar -C /added -xf -
