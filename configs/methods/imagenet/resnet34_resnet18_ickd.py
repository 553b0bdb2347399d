_base_ = '../../_base_/pairs/imagenet/resnet34_resnet18.py'
from dpk_mm.models.methods import ickd, kd  # noqa: E402

# torchdistill's weights
ICKD = ickd('imagenet/resnet34_resnet18', mode='imagenet', loss_weight=500.0)
model = dict(
    architecture=dict(head=dict(loss=dict(loss_weight=0.5))),
    distiller=dict(distill_losses=kd(tau=1.0, loss_weight=0.5) | ICKD),
)
