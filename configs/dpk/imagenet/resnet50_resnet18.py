_base_ = '../../_base_/imagenet_dpk.py'
from dpk_mm.models.pairs import dpk_transforms  # noqa: E402

model = dict(
    teacher=dict(backbone=dict(depth=50)),
    teacher_ckpt='torchvision://resnet50',
    distiller=dict(
        distill_losses=dict(loss_dpk=dict(transforms=dpk_transforms('imagenet/resnet50_resnet18')))
    ),
)
