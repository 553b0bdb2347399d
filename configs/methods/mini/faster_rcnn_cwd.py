_base_ = '../../_base_/pairs/mini_faster_rcnn.py'
from dpk_mm.models.methods import cwd  # noqa: E402

model = dict(distiller=dict(distill_losses=cwd('mini/faster_rcnn')))
