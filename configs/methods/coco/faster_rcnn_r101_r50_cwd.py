_base_ = '../../_base_/pairs/coco_faster_rcnn_r101_r50.py'
from dpk_mm.models.methods import cwd  # noqa: E402

model = dict(distiller=dict(distill_losses=cwd('coco/faster_rcnn')))
