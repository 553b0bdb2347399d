_base_ = '../../imagenet_convnext_e.py'

model = dict(
    teacher=dict(backbone=dict(arch='small'), head=dict(in_channels=768)),
    teacher_ckpt=(
        'https://download.openmmlab.com/mmclassification/v0/convnext/'
        'convnext-small_32xb128_in1k_20221207-4ab7052c.pth'
    ),
)
