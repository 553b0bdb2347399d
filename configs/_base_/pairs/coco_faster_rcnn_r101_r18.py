_base_ = './coco_faster_rcnn_r101_r50.py'

model = dict(
    architecture=dict(
        backbone=dict(depth=18, init_cfg=dict(checkpoint='torchvision://resnet18')),
        neck=dict(in_channels=[64, 128, 256, 512]),
    ),
    # of the neck what fits: its lateral convolutions take the backbone's channels
    inherit=['neck.fpn_convs', 'rpn_head', 'roi_head'],
)

# 4 images a GPU, as in DPK's released config for this pair; the learning rate stays 0.01
train_dataloader = dict(batch_size=4)
auto_scale_lr = dict(base_batch_size=32)
