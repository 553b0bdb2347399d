_base_ = '../../_base_/recipes/imagenet_authors.py'
from dpk_mm.models.pairs import dpk_transforms  # noqa: E402

model = dict(
    teacher=dict(backbone=dict(depth=34), head=dict(in_channels=512)),
    teacher_ckpt='torchvision://resnet34',
    # the student is trained already
    student_ckpt='torchvision://resnet18',
    distiller=dict(
        distill_losses=dict(loss_dpk=dict(transforms=dpk_transforms('imagenet/resnet34_resnet18')))
    ),
)
