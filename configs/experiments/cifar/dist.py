# DIST in the place of KD, with the settings published for CIFAR-100.
_base_ = './kd.py'
from dpk_mm.models.methods import dist  # noqa: E402

model = dict(distiller=dict(distill_losses=dict(_delete_=True, **dist(tau=4.0))))
