_base_ = '../../imagenet_adamw.py'

model = dict(
    architecture=dict(
        backbone=dict(
            _delete_=True, type='SwinTransformer', arch='tiny', img_size=224, drop_path_rate=0.2
        ),
        head=dict(in_channels=768, init_cfg=None),
        init_cfg=[
            dict(type='TruncNormal', layer='Linear', std=0.02, bias=0.0),
            dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
        ],
    ),
    teacher=dict(
        backbone=dict(_delete_=True, type='SwinTransformer', arch='small', img_size=224),
        head=dict(in_channels=768),
    ),
    teacher_ckpt=(
        'https://download.openmmlab.com/mmclassification/v0/swin-transformer/convert/'
        'swin_small_patch4_window7_224-cc7a01c9.pth'
    ),
    # The last block of each stage. The backbone could return both stages, with a second norm that no published
    # checkpoint has.
    distiller=dict(
        records=dict(
            feats=dict(
                student=['backbone.stages.2.blocks.5', 'backbone.stages.3.blocks.1'],
                teacher=['backbone.stages.2.blocks.17', 'backbone.stages.3.blocks.1'],
            )
        )
    ),
)
