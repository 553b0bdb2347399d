#!/usr/bin/env bash
# Makes a virtual environment with everything dpk_mm needs, or adds what is missing to one.
#
#   bash tools/install.sh [--dev] [VENV]      VENV: default .venv in the repository; --dev: also what the tests need
#
# PYTHON names the Python to use (default: python3; 3.11 or newer). A torch or mmcv that this Python has, or that
# VENV has already, is used as it is and never replaced; requirements/torch.txt and mmcv.txt are for those who have none.
# A second run with nothing new to install ends at once.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
dev=
venv=
for argument in "$@"; do
  case "$argument" in
    --dev) dev=-dev ;;
    -h | --help)
      sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    -*)
      echo "install.sh: unknown option $argument (see --help)" >&2
      exit 2
      ;;
    *) venv="$argument" ;;
  esac
done
venv="${venv:-$root/.venv}"
case "$venv" in /*) ;; *) venv="$PWD/$venv" ;; esac
python="${PYTHON:-python3}"
log="$venv/dpk-install.log"

fail() {
  echo "install.sh: $*" >&2
  exit 1
}

# in_venv ARGS: the environment's own Python.
in_venv() { "$venv/bin/python" "$@"; }

# pip_install WHAT ARGS: pip with its output in the log; a failure ends the script and says what failed.
pip_install() {
  local what="$1"
  shift
  if ! in_venv -m pip install --no-input --disable-pip-version-check "$@" >>"$log" 2>&1 </dev/null; then
    grep -v '^WARNING: Location' "$log" | tail -n 12 >&2 || true
    fail "pip could not install $what; its whole output is in $log. Check the network and the free disk space, then run the same command again."
  fi
}

# list_stack PYTHON: a line "NAME VERSION FOLDER" for each of the packages below that it has.
list_stack() {
  "$1" - torch torchvision mmcv mmcv-lite <<'EOF'
import sys
from importlib import metadata

for name in sys.argv[1:]:
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        continue
    print(name, distribution.version, distribution.locate_file('').resolve())
EOF
}

# --- 0. Anything to do at all? ---------------------------------------------------------------------------------------
key="$(cat "$root"/requirements/*.txt "$root/setup.py" "${BASH_SOURCE[0]}" | cksum) $root ${PYTHON:-}"
for stamp in "$venv/dpk-installed$dev" "$venv/dpk-installed-dev"; do
  if [ -x "$venv/bin/python" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$key" ]; then
    echo "dpk_mm is installed in $venv"
    exit 0
  fi
done

# --- 1. The environment ----------------------------------------------------------------------------------------------
command -v "$python" >/dev/null || fail "no $python here; install Python 3.11 or 3.12, or name one in PYTHON."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "$python is $("$python" -V 2>&1); the pinned versions need 3.11 or newer: name another one in PYTHON."
echo "[1/4] virtual environment $venv"
if [ ! -x "$venv/bin/python" ]; then
  "$python" -m venv "$venv" </dev/null || fail "$python -m venv $venv failed; on Debian and Ubuntu the package python3-venv is needed."
fi
: >"$log"
minor='import sys; print("%d.%d" % sys.version_info[:2])'
[ "$("$python" -c "$minor")" = "$(in_venv -c "$minor")" ] ||
  fail "$venv holds Python $(in_venv -c "$minor"), $python is $("$python" -c "$minor"); remove that folder or name another one."

# What the user's Python already has becomes visible in the environment, behind what the environment has itself.
# Not --system-site-packages: that would look past the user's own virtual environment at the Python below it.
if [ "$("$python" -c 'import sys; print(sys.prefix)')" != "$(in_venv -c 'import sys; print(sys.prefix)')" ]; then
  shared=
  while read -r name version folder; do
    case "$name" in torch | mmcv*) ;; *) continue ;; esac
    if [ "$name" = torch ] && ! "$python" -c 'import torch' >>"$log" 2>&1; then
      echo "      $python has torch $version, but cannot import it; it is left alone"
      shared=
      break
    fi
    echo "      using $name $version of $python"
    shared="$shared$folder"$'\n'
  done < <(list_stack "$python")
  if [ -n "$shared" ]; then
    # addsitedir and not the bare folder: it also follows the .pth files in there (editable installs)
    printf '%s' "$shared" | sort -u | sed "s/.*/import site; site.addsitedir('&')/" \
      >"$(in_venv -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/dpk-shared.pth"
  fi
fi

# --- 2. The packages -------------------------------------------------------------------------------------------------
requirements=(-r "$root/requirements/openmmlab.txt")
[ -z "$dev" ] || requirements+=(-r "$root/requirements/dev.txt" -r "$root/requirements/onnx.txt")
constraints="$venv/dpk-constraints.txt"
: >"$constraints"
has_torch= has_torchvision= has_mmcv=
while read -r name version folder; do
  case "$name" in
    torch) has_torch="$version" ;;
    torchvision)
      [ -n "$has_torch" ] || continue # it would not fit the torch that is going to be installed
      has_torchvision="$version"
      ;;
    mmcv | mmcv-lite)
      if ! in_venv -c 'import sys; from pip._vendor.packaging.version import Version as V; sys.exit(not V("2.0.0") <= V(sys.argv[1]) < V("2.2.0"))' "$version"; then
        case "$folder" in
          "$(cd "$venv" && pwd -P)"/*) fail "$venv holds $name $version, but mmdet 3.3 takes 2.0.0 up to, not including, 2.2.0: install $name 2.1.0 there or name another folder." ;;
        esac
        echo "      mmdet 3.3 takes no $name $version: mmcv-lite goes into $venv, in front of it"
        continue
      fi
      has_mmcv="$name $version"
      ;;
  esac
  echo "$name==$version" >>"$constraints"
done < <(list_stack "$venv/bin/python")
what='the OpenMMLab packages'
if [ -z "$has_torch" ]; then
  requirements+=(-r "$root/requirements/torch.txt")
  what="torch and $what"
elif [ -z "$has_torchvision" ]; then
  requirements+=(torchvision)
fi
[ -n "$has_mmcv" ] || requirements+=(-r "$root/requirements/mmcv.txt")
note=
[ -n "$has_torch" ] || note=' (some minutes, 6 GB of disk)'
echo "[2/4] $what$note; pip's output goes to $log"
pip_install "$what" -c "$constraints" "${requirements[@]}"

# opencv-python links to libGL, which machines without a screen often lack; the headless build does not.
if ! trouble="$(in_venv -c 'import cv2' 2>&1)"; then
  if [[ "$trouble" == *'cannot open shared object file'* ]]; then
    opencv="$(in_venv -c 'from importlib.metadata import version; print(version("opencv-python"))')"
    echo "      no libGL here: opencv-python-headless takes the place of opencv-python"
    # pip removes it from this environment only, never from the Python behind it
    in_venv -m pip uninstall --yes opencv-python >>"$log" 2>&1 </dev/null || true
    pip_install opencv-python-headless --no-deps --force-reinstall "opencv-python-headless==$opencv"
  fi
fi

# --- 3. dpk_mm itself ------------------------------------------------------------------------------------------------
echo "[3/4] dpk_mm, editable"
pip_install dpk_mm --no-deps --no-build-isolation -e "$root"

# --- 4. Does it work? ------------------------------------------------------------------------------------------------
echo "[4/4] trying the imports"
if ! in_venv - >>"$log" 2>&1 <<'EOF'; then
import cv2, torch, torchvision
import dpk_mm, mmcv, mmdet, mmengine, mmpretrain, mmrazor

torch.ones(1).numpy()  # fails where torch was built for another numpy
torchvision.ops.nms(torch.ones(1, 4), torch.ones(1), 0.5)  # fails where the two are of different builds
EOF
  tail -n 12 "$log" >&2
  fail "everything is installed in $venv, but cannot be imported (above). Where $python has its own torch or mmcv, name a Python without them in PYTHON and another VENV to get the pinned versions."
fi
printf '%s' "$key" >"$venv/dpk-installed$dev"
in_venv -c 'import torch, mmcv; print(f"done: torch {torch.__version__}, mmcv {mmcv.__version__}")'
