_base_ = '../../_base_/pairs/imagenet/resnet34_resnet18.py'
from dpk_mm.models.methods import nkd  # noqa: E402

model = dict(distiller=dict(distill_losses=nkd()))
