_base_ = '../../_base_/pairs/mini_retinanet.py'
from dpk_mm.models.methods import crosskd  # noqa: E402

# The heads have two convolutions. As on COCO nothing is inherited.
model = dict(inherit=None, distiller=dict(distill_losses=crosskd('mini/retinanet', split=1)))
