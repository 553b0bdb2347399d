# EfficientNet teachers of ResNet-18: the last stage alone, as in the text (A.4).
#
# Teacher and student see the same 224x224 pixels, as the text says of all its ImageNet images (A.1).
# B1 to B4 were trained at 240 to 380 pixels, so here they are less accurate than their files say.
_base_ = './imagenet.py'

model = dict(
    architecture=dict(backbone=dict(out_indices=(3,))),
    teacher=dict(
        # 6 is the last 1x1 convolution, which widens 320 channels to 1280 (B0)
        backbone=dict(_delete_=True, type='EfficientNet', arch='b0', out_indices=(6,)),
        head=dict(in_channels=1280),
    ),
)
