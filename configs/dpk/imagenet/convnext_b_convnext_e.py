_base_ = '../../_base_/imagenet_dpk_convnext_e.py'
from dpk_mm.models.pairs import dpk_transforms  # noqa: E402

model = dict(
    teacher=dict(backbone=dict(arch='base'), head=dict(in_channels=1024)),
    teacher_ckpt=(
        'https://download.openmmlab.com/mmclassification/v0/convnext/'
        'convnext-base_3rdparty_32xb128_in1k_20220124-d0915162.pth'
    ),
    distiller=dict(
        distill_losses=dict(
            loss_dpk=dict(transforms=dpk_transforms('imagenet/convnext-b_convnext-e'))
        )
    ),
)
