# CaiT-S24 teaches DeiT. The paper does not say which blocks it compares; here they are the last one
# and the middle one of each.
_base_ = './imagenet_adamw.py'

model = dict(
    architecture=dict(
        backbone=dict(
            _delete_=True, type='VisionTransformer', arch='deit-tiny', img_size=224, patch_size=16
        ),
        neck=None,
        head=dict(
            _delete_=True,
            type='VisionTransformerClsHead',
            num_classes=1000,
            in_channels=192,
            loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
            topk=(1, 5),
        ),
        init_cfg=[
            dict(type='TruncNormal', layer='Linear', std=0.02),
            dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
        ],
    ),
    # The whole model of timm: mmpretrain's TIMMBackbone would drop the head and the class token's
    # pooling, and its keys would not be those of the official file.
    teacher=dict(
        _delete_=True,
        _scope_='mmpretrain',
        type='TimmClassifier',
        model_name='cait_s24_224',
        pretrained=False,
        num_classes=1000,
        data_preprocessor=_base_.model.teacher.data_preprocessor.to_dict(),
    ),
    teacher_ckpt='https://dl.fbaipublicfiles.com/deit/S24_224.pth',
    # `auto` looks for a head, which this wrapper keeps out of sight
    teacher_forward='logits',
    distiller=dict(
        records=dict(
            feats=dict(
                student=['backbone.layers.5', 'backbone.layers.11'],
                teacher=['model.blocks.11', 'model.blocks.23'],
            ),
            logits=dict(student='head.layers.head', teacher='model.head'),
        )
    ),
)
