_base_ = '../../_base_/pairs/imagenet/resnet34_resnet18.py'
from dpk_mm.models.methods import cc  # noqa: E402

model = dict(distiller=dict(records=dict(embedding='neck'), distill_losses=cc(512, 512)))
