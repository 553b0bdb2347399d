_base_ = '../../_base_/imagenet_dpk_convnext.py'
from dpk_mm.models.pairs import dpk_transforms  # noqa: E402

model = dict(
    teacher_ckpt=(
        'https://download.openmmlab.com/mmclassification/v0/convnext/'
        'convnext-tiny_32xb128_in1k_20221207-998cf3e9.pth'
    ),
    distiller=dict(
        distill_losses=dict(
            loss_dpk=dict(transforms=dpk_transforms('imagenet/convnext-t_resnet18'))
        )
    ),
)
