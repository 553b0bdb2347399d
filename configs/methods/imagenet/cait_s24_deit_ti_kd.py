_base_ = '../../_base_/pairs/imagenet/cait_s24_deit_ti.py'
from dpk_mm.models.methods import kd  # noqa: E402

model = dict(distiller=dict(distill_losses=kd(tau=1.0, loss_weight=1.0)))
