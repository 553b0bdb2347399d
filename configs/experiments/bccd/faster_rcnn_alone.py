_base_ = ['mmdet::_base_/models/faster-rcnn_r50_fpn.py', './data.py']

# The small student of the mini configs.
model = dict(
    backbone=dict(depth=18, base_channels=8, init_cfg=None, frozen_stages=-1, norm_eval=False),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=64),
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        # boxes of 28 to 56 pixels from P3 and so on: COCO's 56 would send every cell of these images to P2
        bbox_roi_extractor=dict(out_channels=64, finest_scale=14),
        bbox_head=dict(in_channels=64, fc_out_channels=128, num_classes=3),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=200, max_per_img=200), rcnn=dict(sampler=dict(num=64))
    ),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=200)),
)

# 450 iterations; it takes twice as long as a RetinaNet.
train_cfg = dict(max_epochs=45)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type='CosineAnnealingLR', T_max=45, end=45, by_epoch=True, convert_to_iter_based=True),
]
