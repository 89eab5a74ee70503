#!/bin/sh
# Installs raysearch into .venv; `./install.sh dev` also installs what tests it. It can be repeated.
# Whatever is installed has a hash in requirements*.lock; uv and the build are verified by hash, too.
set -eu
cd "$(dirname "$0")"
python3 -m venv .uv
.uv/bin/pip install -q --require-hashes -r requirements-build.lock
export VIRTUAL_ENV=.venv
.uv/bin/uv venv -q --allow-existing .venv
.uv/bin/uv pip install -q --require-hashes -r requirements.lock ${1:+-r "requirements-$1.lock"}
.uv/bin/uv pip install -q --no-deps --require-build-hashes --build-constraints requirements-build.lock -e .
