_base_ = '../../_base_/pairs/mini_faster_rcnn.py'
from dpk_mm.models.methods import pkd  # noqa: E402

model = dict(distiller=dict(distill_losses=pkd('mini/faster_rcnn')))
