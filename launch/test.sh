#!/usr/bin/env bash
# Installs the package with its test extra and runs all tests against what was installed.
#
#   bash launch/test.sh [pytest arguments]
#
# PYTHON=... chooses the interpreter, VENV=... the environment, CONSTRAINTS="jax==0.10.2 ..." pins
# packages, RCNN_JAX_DATA=... names the folder of real data sets: with it no test of them may skip.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/find_python.sh

venv=${VENV:-.venv}
if [ ! -x "$venv/bin/python" ]; then
  python=$(find_python 3.11 3.14) || {
    echo "error: no Python 3.11, 3.12 or 3.13 with the venv module was found; name one: PYTHON=/path/to/python3 bash launch/test.sh" >&2
    exit 1
  }
  "$python" -m venv "$venv"
fi
# shellcheck disable=SC2086  # several packages
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check '.[test]' ${CONSTRAINTS:-}
# -P: the checkout must not stand before the installed package.
"$venv/bin/python" -P -c 'import sys, jax, flax; from rcnn_jax.kernels import library; print("Python", sys.version.split()[0], "jax", jax.__version__, "flax", flax.__version__, "kernels", library.missing() or library.instruction_set())'
# `pytest` and not `python -m pytest`, for the same reason.
exec "$venv/bin/pytest" -n "${WORKERS:-2}" --dist=worksteal "$@"
