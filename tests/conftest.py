"""mmdet cannot be imported with mmcv-lite before dpk_mm has repaired it, whatever file runs first."""

import dpk_mm  # noqa: F401
