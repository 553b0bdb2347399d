# mmdet's own config, here so that all students stand side by side.
_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py'
