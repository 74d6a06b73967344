#!/usr/bin/env bash
# Make .venv, and install this tree into it: editable, with all that developing it takes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. .ci/python.sh

if ! .venv/bin/python -c 'import pip' >/dev/null 2>&1; then
    python=$(find_python) || {
        echo "No Python 3.11 or later with venv on PATH (on Debian: python3 and python3-venv)." >&2
        exit 1
    }
    rm -rf .venv
    "$python" -m venv .venv
fi

pip=(.venv/bin/python -m pip install -qq --disable-pip-version-check --no-input)
# The build tools first, as pyproject.toml names them: then building needs no environment of its own.
.venv/bin/python -c 'import tomllib
print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' | "${pip[@]}" -r /dev/stdin
"${pip[@]}" --no-build-isolation --editable '.[dev,mysql,s3,obstore]'

.venv/bin/python -P -c '
import platform
from importlib.metadata import version
from strandline.chunker.kernel import kernel_name
print("strandline", version("strandline"), "on Python", platform.python_version(), "with scan", kernel_name())'
touch .venv/.installed
