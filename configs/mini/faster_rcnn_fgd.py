_base_ = '../_base_/pairs/mini_faster_rcnn.py'
from dpk_mm.models.methods import fgd  # noqa: E402

model = dict(distiller=dict(distill_losses=fgd('mini/faster_rcnn', 'mini_two_stage')))
