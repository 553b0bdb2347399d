_base_ = '../../_base_/imagenet_dpk_efficientnet.py'
from dpk_mm.models.pairs import dpk_transforms  # noqa: E402

model = dict(
    teacher=dict(backbone=dict(arch='b4'), head=dict(in_channels=1792)),
    teacher_ckpt=(
        'https://download.openmmlab.com/mmclassification/v0/efficientnet/'
        'efficientnet-b4_3rdparty_8xb32_in1k_20220119-81fd4077.pth'
    ),
    distiller=dict(
        distill_losses=dict(
            loss_dpk=dict(transforms=dpk_transforms('imagenet/efficientnet-b4_resnet18'))
        )
    ),
)
