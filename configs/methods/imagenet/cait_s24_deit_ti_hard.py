_base_ = '../../_base_/pairs/imagenet/cait_s24_deit_ti.py'
from dpk_mm.models.methods import hard  # noqa: E402

model = dict(
    architecture=dict(head=dict(loss=dict(loss_weight=0.5))),
    distiller=dict(distill_losses=hard()),
)
