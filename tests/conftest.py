"""mmdet cannot be imported with mmcv-lite before dpk_mm has repaired it, whatever file runs first."""

import sys
from pathlib import Path

import dpk_mm  # noqa: F401

# what several tests share, under its own name: `tests` is also a package of others
sys.path.insert(0, str(Path(__file__).parent / 'helpers'))
