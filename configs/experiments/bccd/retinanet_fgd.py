_base_ = './retinanet_pair.py'
from dpk_mm.models.methods import fgd  # noqa: E402

model = dict(
    distiller=dict(distill_losses=fgd('bccd/retinanet', 'mini_one_stage', name='loss_feat'))
)
