_base_ = '../../_base_/imagenet_dpk_cait_deit.py'
from dpk_mm.models.pairs import dpk_transforms  # noqa: E402

model = dict(
    distiller=dict(
        distill_losses=dict(loss_dpk=dict(transforms=dpk_transforms('imagenet/cait-s24_deit-t')))
    ),
)
