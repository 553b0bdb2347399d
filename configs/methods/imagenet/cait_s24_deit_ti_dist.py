_base_ = '../../_base_/pairs/imagenet/cait_s24_deit_ti.py'
from dpk_mm.models.methods import dist  # noqa: E402

model = dict(distiller=dict(distill_losses=dist()))
