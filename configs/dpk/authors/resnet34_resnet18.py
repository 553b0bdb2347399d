_base_ = '../../_base_/recipes/imagenet_authors.py'
from dpk_mm.models.methods import dpk, kd  # noqa: E402

model = dict(
    teacher=dict(backbone=dict(depth=34), head=dict(in_channels=512)),
    teacher_ckpt='torchvision://resnet34',
    # the student is trained already
    student_ckpt='torchvision://resnet18',
    # Their KLDivLoss takes the mean over images and classes, times 1000 classes: batchmean.
    distiller=dict(
        distill_losses=kd(tau=1.0)
        | dpk('imagenet/resnet34_resnet18', position_embedding='sinusoidal')
    ),
)
