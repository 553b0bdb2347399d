_base_ = '../../imagenet_efficientnet.py'

model = dict(
    teacher=dict(backbone=dict(arch='b3'), head=dict(in_channels=1536)),
    teacher_ckpt=(
        'https://download.openmmlab.com/mmclassification/v0/efficientnet/'
        'efficientnet-b3_3rdparty_8xb32_in1k_20220119-4b4d7487.pth'
    ),
)
