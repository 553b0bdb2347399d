_base_ = '../../_base_/pairs/mini_faster_rcnn.py'
from dpk_mm.models.methods import fgfi  # noqa: E402

model = dict(distiller=dict(distill_losses=fgfi('mini/faster_rcnn')))
