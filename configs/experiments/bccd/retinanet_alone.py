_base_ = ['mmdet::_base_/models/retinanet_r50_fpn.py', './data.py']

# The small student of the mini configs.
model = dict(
    backbone=dict(depth=18, base_channels=8, init_cfg=None, frozen_stages=-1, norm_eval=False),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=64),
    bbox_head=dict(
        num_classes=3,
        in_channels=64,
        stacked_convs=2,
        feat_channels=64,
        # platelets are about 20 pixels wide at this size
        anchor_generator=dict(octave_base_scale=2),
    ),
)
