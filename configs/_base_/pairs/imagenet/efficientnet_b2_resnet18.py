_base_ = '../../imagenet_efficientnet.py'

model = dict(
    teacher=dict(backbone=dict(arch='b2'), head=dict(in_channels=1408)),
    teacher_ckpt=(
        'https://download.openmmlab.com/mmclassification/v0/efficientnet/'
        'efficientnet-b2_3rdparty_8xb32_in1k_20220119-ea374a30.pth'
    ),
)
