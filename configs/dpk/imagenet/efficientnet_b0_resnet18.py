_base_ = '../../_base_/imagenet_dpk_efficientnet.py'
from dpk_mm.models.pairs import dpk_transforms  # noqa: E402

model = dict(
    teacher_ckpt=(
        'https://download.openmmlab.com/mmclassification/v0/efficientnet/'
        'efficientnet-b0_3rdparty_8xb32_in1k_20220119-a7e2a0b1.pth'
    ),
    distiller=dict(
        distill_losses=dict(
            loss_dpk=dict(transforms=dpk_transforms('imagenet/efficientnet-b0_resnet18'))
        )
    ),
)
