#!/usr/bin/env bash
# Installs what the tests need, then runs lint, format, type and layer checks and the tests.
#
#   bash tools/run_tests.sh [PYTEST ARGUMENTS]      for instance: bash tools/run_tests.sh -k fgd
#
# The tests run in two processes (one where there is one core), each with one thread; `-n 8` asks for eight, `-n 0` for
# none beside pytest's own. `-m "not slow"` leaves out what trains for long, `-p no:randomly` keeps the order of the files.
# A failure that another order does not show is there again with the `--randomly-seed` that the output names.
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
# several threads in each of several processes wait for each other where the machine is busy
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" MKL_NUM_THREADS="${MKL_NUM_THREADS:-1}"
workers="$(python -c 'import os; print(min(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))')"
# a file stays with one process: its tests share what it has trained
python -m pytest -q -n "$workers" --dist loadfile --no-loadscope-reorder tests "$@"
