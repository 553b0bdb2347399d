_base_ = 'mmdet::retinanet/retinanet_r50_fpn_2x_coco.py'

model = dict(backbone=dict(depth=152, init_cfg=dict(checkpoint='torchvision://resnet152')))
