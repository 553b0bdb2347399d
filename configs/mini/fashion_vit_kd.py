_base_ = '../_base_/pairs/mini_fashion_vit.py'
from dpk_mm.models.methods import kd  # noqa: E402

model = dict(distiller=dict(distill_losses=kd(tau=4.0)))
