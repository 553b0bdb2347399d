_base_ = '../../_base_/pairs/cifar100/resnet56_resnet20.py'
from dpk_mm.models.methods import mgd_channels  # noqa: E402

# The weight is that of ImageNet's maps: none is published for CIFAR-100.
model = dict(distiller=dict(distill_losses=mgd_channels('cifar100/resnet56_resnet20')))
