_base_ = '../../_base_/pairs/cifar100/resnet56_resnet20.py'
from dpk_mm.models.methods import mgd_channels  # noqa: E402

# the authors' weight for CIFAR-100, of ResNet-34 to ResNet-18; that for ImageNet is 7e-5
model = dict(
    distiller=dict(distill_losses=mgd_channels('cifar100/resnet56_resnet20', loss_weight=1.2e-3))
)
