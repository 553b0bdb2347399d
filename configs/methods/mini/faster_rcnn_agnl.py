_base_ = '../../_base_/pairs/mini_faster_rcnn.py'
from dpk_mm.models.methods import agnl  # noqa: E402

model = dict(distiller=dict(distill_losses=agnl('mini/faster_rcnn')))
