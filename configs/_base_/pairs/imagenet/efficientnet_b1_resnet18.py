_base_ = '../../imagenet_efficientnet.py'

model = dict(
    teacher=dict(backbone=dict(arch='b1'), head=dict(in_channels=1280)),
    teacher_ckpt=(
        'https://download.openmmlab.com/mmclassification/v0/efficientnet/'
        'efficientnet-b1_3rdparty_8xb32_in1k_20220119-002556d9.pth'
    ),
)
