_base_ = '../../_base_/pairs/imagenet/resnet34_resnet18.py'
from dpk_mm.models.methods import sp  # noqa: E402

model = dict(distiller=dict(distill_losses=sp()))
