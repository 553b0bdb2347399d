_base_ = '../../_base_/imagenet_dpk_convnext.py'
from dpk_mm.models.pairs import dpk_transforms  # noqa: E402

model = dict(
    teacher=dict(backbone=dict(arch='small'), head=dict(in_channels=768)),
    teacher_ckpt=(
        'https://download.openmmlab.com/mmclassification/v0/convnext/'
        'convnext-small_32xb128_in1k_20221207-4ab7052c.pth'
    ),
    distiller=dict(
        distill_losses=dict(
            loss_dpk=dict(transforms=dpk_transforms('imagenet/convnext-s_resnet18'))
        )
    ),
)
