_base_ = '../../_base_/pairs/mini_retinanet.py'
from dpk_mm.models.methods import crosskd  # noqa: E402

# the heads have two convolutions
model = dict(distiller=dict(distill_losses=crosskd('mini/retinanet', split=1)))
