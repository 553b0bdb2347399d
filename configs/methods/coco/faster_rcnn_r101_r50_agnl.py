_base_ = '../../_base_/pairs/coco_faster_rcnn_r101_r50.py'
from dpk_mm.models.methods import agnl  # noqa: E402

model = dict(distiller=dict(distill_losses=agnl('coco/faster_rcnn')))
