_base_ = '../../_base_/pairs/cifar100/resnet56_resnet20.py'
from dpk_mm.models.methods import ab  # noqa: E402

# The initialisation; then train from its student by `student_ckpt`, without the loss.
model = dict(
    architecture=dict(backbone=dict(out_indices=(1, 2, 3), preact=True)),
    teacher=dict(backbone=dict(out_indices=(1, 2, 3), preact=True)),
    distiller=dict(distill_losses=ab('cifar100/resnet56_resnet20', before=[(16, 16)])),
    calculate_student_loss=False,
)
train_cfg = dict(max_epochs=30)
# the classifier gets no gradient
find_unused_parameters = True
