_base_ = '../../_base_/pairs/imagenet/resnet34_resnet18.py'
from dpk_mm.models.methods import ickd  # noqa: E402

model = dict(
    distiller=dict(
        distill_losses=ickd('imagenet/resnet34_resnet18', mode='imagenet', loss_weight=500.0)
    )
)
