_base_ = '../../_base_/recipes/cifar100_authors.py'
from dpk_mm.models.methods import dpk, kd  # noqa: E402

model = dict(
    # Their Wide ResNets give a stage after the batch norm that follows it, here `preact`; elsewhere it is the raw sum.
    architecture=dict(
        backbone=dict(type='CIFARWideResNet', arch='wrn_16_2', preact=True),
        head=dict(in_channels=128),
    ),
    teacher=dict(
        backbone=dict(type='CIFARWideResNet', arch='wrn_40_2', preact=True),
        head=dict(in_channels=128),
    ),
    # as the field publishes it; its keys are renamed on loading
    teacher_ckpt='checkpoints/cifar100/wrn_40_2_vanilla/ckpt_epoch_240.pth',
    # Their KLDivLoss takes the mean over images and classes, times 100 classes: batchmean.
    distiller=dict(
        distill_losses=kd(tau=4.0)
        | dpk(
            'cifar100/wrn40-2_wrn16-2', stage_weights='cifar_code', position_embedding='sinusoidal'
        )
    ),
)
