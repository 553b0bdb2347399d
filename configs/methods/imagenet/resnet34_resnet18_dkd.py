_base_ = '../../_base_/pairs/imagenet/resnet34_resnet18.py'
from dpk_mm.models.methods import dkd  # noqa: E402

model = dict(
    distiller=dict(distill_losses=dkd('imagenet/resnet34_resnet18', tau=1.0, beta=0.5, warmup=1))
)
