_base_ = '../_base_/pairs/coco_retinanet_r101_r18.py'
from dpk_mm.models.methods import fgd  # noqa: E402

model = dict(distiller=dict(distill_losses=fgd('coco/retinanet', 'fgd_one_stage_paper')))
