#!/usr/bin/env bash
# Installs what the tests need, then runs lint, format, type and layer checks and the tests.
#
#   bash tools/run_tests.sh [PYTEST ARGUMENTS]      for instance: bash tools/run_tests.sh -k fgd
#
# DPK_VENV names the virtual environment (default: .venv in the repository), PYTHON the Python to make it with.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="${DPK_VENV:-$root/.venv}"
case "$venv" in /*) ;; *) venv="$PWD/$venv" ;; esac
cd "$root"

bash tools/install.sh --dev "$venv"
# the tests of the tools call `python`, and that has to be this one
export PATH="$venv/bin:$PATH"
unset PYTHON

echo 'ruff check'
python -m ruff check .
echo 'ruff format'
python -m ruff format --check .
echo 'mypy'
python -m mypy
echo 'import-linter'
lint-imports --no-logo
echo 'pytest'
python -m pytest -q tests "$@"
