_base_ = '../../imagenet_efficientnet.py'

model = dict(
    teacher_ckpt=(
        'https://download.openmmlab.com/mmclassification/v0/efficientnet/'
        'efficientnet-b0_3rdparty_8xb32_in1k_20220119-a7e2a0b1.pth'
    ),
)
