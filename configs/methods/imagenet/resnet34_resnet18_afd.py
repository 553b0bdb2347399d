_base_ = '../../_base_/pairs/imagenet/resnet34_resnet18.py'
from dpk_mm.models.methods import afd  # noqa: E402

BEFORE = [(64, 64), (128, 128)]
model = dict(
    architecture=dict(backbone=dict(out_indices=(0, 1, 2, 3))),
    teacher=dict(backbone=dict(out_indices=(0, 1, 2, 3))),
    distiller=dict(distill_losses=afd('imagenet/resnet34_resnet18', before=BEFORE)),
)
