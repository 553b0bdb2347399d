_base_ = '../../_base_/pairs/imagenet/resnet34_resnet18.py'
from dpk_mm.models.methods import kd_standardized  # noqa: E402

# the settings of CIFAR-100: the authors' for ImageNet are those of a loss on two views and with five temperatures
model = dict(
    architecture=dict(head=dict(loss=dict(loss_weight=0.1))),
    distiller=dict(distill_losses=kd_standardized()),
)
