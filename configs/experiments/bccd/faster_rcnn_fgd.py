_base_ = './faster_rcnn_pair.py'
from dpk_mm.models.methods import fgd  # noqa: E402

model = dict(
    distiller=dict(distill_losses=fgd('bccd/faster_rcnn', 'mini_two_stage', name='loss_feat'))
)
