#!/usr/bin/env bash
# Collects what tools/gpu_report.py needs on a machine that reaches no network and has Python 3.12, torch and
# torchvision already: the pure-Python OpenMMLab stack and its small dependencies, about 11 MB. No compiler is needed.
# usage: bash tools/gpu_wheels.sh [FOLDER]     (default: .whl)
# Not among them, since they are large: numpy, scipy, opencv, matplotlib, and pytest for the tests on the device.
# there: python3 -m pip install --no-index --no-deps --no-compile --target SITE FOLDER/*.whl
set -euo pipefail
out=${1:-.whl}
mkdir -p "$out"
platforms=()
for p in manylinux_2_28 manylinux_2_27 manylinux_2_24 manylinux_2_17 manylinux2014 manylinux1; do
  platforms+=(--platform "${p}_x86_64")
done
# The versions that were run together on Python 3.12. importlib-metadata 10 wants one more package.
python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp "${platforms[@]}" -d "$out" \
  mmengine==0.10.7 mmcv-lite==2.1.0 mmdet==3.3.0 mmpretrain==1.2.0 mmrazor==1.0.0 \
  addict==2.4.0 termcolor==3.3.0 yapf==0.43.0 platformdirs==4.14.8 pycocotools==2.0.11 shapely==2.2.0 \
  terminaltables==3.1.10 six==1.17.0 einops==0.8.2 rich==15.0.0 mat4py==0.6.0 model-index==0.1.11 modelindex==0.0.2 \
  ordered-set==4.1.0 importlib-metadata==8.7.1 zipp==4.1.2 joblib==1.6.0 pydacefit==1.0.1 tqdm==4.70.1 \
  markdown-it-py==4.3.0 mdurl==0.1.2 pygments==2.21.0 Markdown==3.11.3 click==8.5.1 setuptools==80.9.0
ls "$out" | wc -l
