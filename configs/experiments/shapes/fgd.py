# FGD, each level with a weight of its own; grids set them.
_base_ = '../../_base_/pairs/mini_faster_rcnn.py'
from dpk_mm.models.methods import fgd, level_weights  # noqa: E402

model = dict(
    distiller=dict(distill_losses=level_weights(fgd('mini/faster_rcnn', 'mini_two_stage')))
)
custom_hooks = [dict(type='mmrazor.LossGradientHook', interval=20, by_level=True)]
