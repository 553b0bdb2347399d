_base_ = '../../_base_/imagenet_dpk_convnext_e.py'
from dpk_mm.models.pairs import dpk_transforms  # noqa: E402

model = dict(
    teacher=dict(backbone=dict(arch='large'), head=dict(in_channels=1536)),
    # Table 10 prints 87.40 for ConvNeXt-L, which is that of ImageNet-22k and 384 pixels.
    teacher_ckpt=(
        'https://download.openmmlab.com/mmclassification/v0/convnext/'
        'convnext-large_3rdparty_64xb64_in1k_20220124-f8a0ded0.pth'
    ),
    distiller=dict(
        distill_losses=dict(
            loss_dpk=dict(transforms=dpk_transforms('imagenet/convnext-l_convnext-e'))
        )
    ),
)
