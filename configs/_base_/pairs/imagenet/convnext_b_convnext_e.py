_base_ = '../../imagenet_convnext_e.py'

model = dict(
    teacher=dict(backbone=dict(arch='base'), head=dict(in_channels=1024)),
    teacher_ckpt=(
        'https://download.openmmlab.com/mmclassification/v0/convnext/'
        'convnext-base_3rdparty_32xb128_in1k_20220124-d0915162.pth'
    ),
)
