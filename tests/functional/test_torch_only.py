"""What needs torch alone must import where no OpenMMLab package is installed."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import sys

BLOCKED = {'mmengine', 'mmcv', 'mmdet', 'mmpretrain', 'mmrazor'}


class Hide:
    # finds nothing of these names, as if they were not installed: an import raises, find_spec
    # gives None
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in BLOCKED:
            return None
        return self.finder.find_spec(name, path, target)


sys.meta_path[:] = [Hide(finder) for finder in sys.meta_path]
try:
    import mmengine
except ModuleNotFoundError:
    pass
else:
    raise SystemExit('mmengine was not blocked')

import torch

import dpk_mm.functional
import dpk_mm.modules

x = torch.randn(8, 5)
assert abs(dpk_mm.functional.minibatch_cka(x, x).item() - 1) < 1e-6
loaded = sorted({name.partition('.')[0] for name in sys.modules} & BLOCKED)
assert not loaded, loaded
print('imported')
"""


def test_functional_and_modules_import_without_openmmlab():
    path = os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]).rstrip(os.pathsep)
    result = subprocess.run(
        [sys.executable, '-c', SCRIPT],
        capture_output=True,
        text=True,
        env={**os.environ, 'PYTHONPATH': path},
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == 'imported'
