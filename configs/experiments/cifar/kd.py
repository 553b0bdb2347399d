_base_ = '../../_base_/pairs/mini_cifar100.py'
from dpk_mm.models.methods import kd  # noqa: E402

model = dict(distiller=dict(distill_losses=kd(tau=4.0)))
log_processor = dict(mean_pattern=r'.*(loss|time|grad_norm|mask_ratio|similarity).*')
