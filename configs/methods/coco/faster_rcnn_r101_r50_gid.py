_base_ = '../../_base_/pairs/coco_faster_rcnn_r101_r50.py'
from dpk_mm.models.methods import gid  # noqa: E402

model = dict(distiller=dict(distill_losses=gid('coco/faster_rcnn')))
