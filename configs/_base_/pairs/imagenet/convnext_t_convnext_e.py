_base_ = '../../imagenet_convnext_e.py'

model = dict(
    teacher_ckpt=(
        'https://download.openmmlab.com/mmclassification/v0/convnext/'
        'convnext-tiny_32xb128_in1k_20221207-998cf3e9.pth'
    ),
)
