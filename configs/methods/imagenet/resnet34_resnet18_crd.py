_base_ = '../../_base_/pairs/imagenet/resnet34_resnet18.py'
from dpk_mm.models.methods import crd  # noqa: E402

model = dict(distiller=dict(distill_losses=crd('imagenet/resnet34_resnet18', num_images=1281167)))
