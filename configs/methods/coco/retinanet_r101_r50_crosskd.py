_base_ = '../../_base_/pairs/coco_retinanet_r101_r50.py'
from dpk_mm.models.methods import crosskd  # noqa: E402

# The published runs inherit nothing.
model = dict(inherit=None, distiller=dict(distill_losses=crosskd('coco/retinanet')))
