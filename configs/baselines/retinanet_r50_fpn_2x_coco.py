# mmdet's own config, here so that all students stand side by side.
_base_ = 'mmdet::retinanet/retinanet_r50_fpn_2x_coco.py'
