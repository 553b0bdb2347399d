_base_ = '../_base_/pairs/mini_retinanet.py'
from dpk_mm.models.methods import fgd  # noqa: E402

model = dict(distiller=dict(distill_losses=fgd('mini/retinanet', 'mini_one_stage')))
