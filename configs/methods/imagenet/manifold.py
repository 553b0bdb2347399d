_base_ = '../../_base_/pairs/imagenet/cait_s24_deit_ti.py'
from dpk_mm.models.methods import kd, manifold  # noqa: E402

FEATS = dict(
    student=[f'backbone.layers.{i}' for i in (0, 1, 2, 3, 8, 9, 10, 11)],
    teacher=[f'model.blocks.{i}' for i in (0, 1, 2, 3, 20, 21, 22, 23)],
)
LOSSES = kd(tau=1.0, loss_weight=1.0) | manifold('imagenet/cait-s24_deit-t', blocks=8)
# nothing of the labels that the distillation could be compared with
default_hooks = dict(distill_alarm=None)
model = dict(
    architecture=dict(head=dict(loss=dict(loss_weight=0.0))),  # published without the labels
    distiller=dict(records=dict(feats=FEATS), distill_losses=LOSSES),
)
