_base_ = '../../imagenet_efficientnet.py'

model = dict(
    teacher=dict(backbone=dict(arch='b4'), head=dict(in_channels=1792)),
    teacher_ckpt=(
        'https://download.openmmlab.com/mmclassification/v0/efficientnet/'
        'efficientnet-b4_3rdparty_8xb32_in1k_20220119-81fd4077.pth'
    ),
)
