# FGD, each level with a weight of its own; grids set them.
_base_ = './pair.py'
from dpk_mm.models.methods import fgd, level_weights  # noqa: E402

model = dict(
    distiller=dict(distill_losses=level_weights(fgd('bccd/faster_rcnn', 'mini_two_stage')))
)
