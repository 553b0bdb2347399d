# The small student; the teacher is the same detector with a backbone four times as wide.
_base_ = ['mmdet::_base_/models/retinanet_r50_fpn.py', './mini_shapes.py']

model = dict(
    backbone=dict(
        depth=18,
        base_channels=8,
        # from scratch: nothing is downloaded, and all of it, normalisation too, has to be trained
        init_cfg=None,
        frozen_stages=-1,
        norm_eval=False,
    ),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=64),
    bbox_head=dict(
        num_classes=5,
        in_channels=64,
        stacked_convs=2,
        feat_channels=64,
        # objects are 21 to 55 pixels wide: anchors of 16 to 50 pixels at P3 and P4
        anchor_generator=dict(octave_base_scale=2),
    ),
)
