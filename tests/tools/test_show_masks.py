import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parents[2]


def _run(*args):
    command = [sys.executable, str(ROOT / 'tools' / 'analysis' / 'show_masks.py'), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)


def test_the_command_writes_the_picture(tmp_path):
    image, out = tmp_path / 'a.png', tmp_path / 'new' / 'masks.png'
    cv2.imwrite(str(image), np.full((40, 40, 3), 90, np.uint8))
    result = _run(image, '--out', out, '--ratios', '0.5', '--grid', '4', '4', '--size', '40')
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().endswith(str(out))
    assert cv2.imread(str(out)).std() > 1
