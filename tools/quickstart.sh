#!/usr/bin/env bash
# Trains a mini teacher on a generated dataset, then one student without it (the baseline), with FGD, and with
# DPK + FGD, and compares them. Run it again to continue where it stopped; it does only what is missing.
#
#   bash tools/quickstart.sh [--detector faster_rcnn|retinanet] [--fresh] [--smoke] [--help]
#
# --fresh starts over; --smoke trains one epoch on a few images, to see that everything works.
# DPK_VENV names the virtual environment (default: .venv in the repository), PYTHON the Python to make it with.
# DPK_PYTHON names a Python that has everything already; nothing is installed then.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
case " $* " in
  *' --help '* | *' -h '*)
    sed -n '2,10s/^# \{0,1\}//p' tools/quickstart.sh
    exit 0
    ;;
esac

if [[ -z "${DPK_PYTHON:-}" ]]; then
  venv="${DPK_VENV:-.venv}"
  bash tools/install.sh "$venv"
  DPK_PYTHON="$venv/bin/python"
fi
# mmengine imports pkg_resources, which says so in every process; the reader of this console can do nothing about it
export PYTHONWARNINGS="${PYTHONWARNINGS:+$PYTHONWARNINGS,}ignore:pkg_resources is deprecated as an API:UserWarning"
exec "$DPK_PYTHON" -m tools.quickstart "$@"
