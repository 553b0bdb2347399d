_base_ = '../../_base_/pairs/imagenet/resnet34_resnet18.py'
from dpk_mm.models.methods import ft  # noqa: E402

# The paraphraser is trained along; for one trained before, give `paraphraser_ckpt`.
model = dict(distiller=dict(distill_losses=ft('imagenet/resnet34_resnet18')))
