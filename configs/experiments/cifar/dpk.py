# KD, and DPK on the last two stages, 8 x 8 and 4 x 4 tokens; grids set the weight, and forms of the modules.
_base_ = './kd.py'
from dpk_mm.models.methods import dpk  # noqa: E402

model = dict(distiller=dict(distill_losses=dict(loss_feat=dpk('mini/cifar100')['loss_dpk'])))
default_hooks = dict(mask_ratio=dict(type='mmrazor.CKAMaskRatioHook', samples='images'))
custom_hooks = [dict(type='mmrazor.LossGradientHook', interval=20, by_level=True)]

# The student's as in training it alone; the modules' own have AdamW, as in the authors' code.
optim_wrapper = dict(
    _delete_=True,
    constructor='mmrazor.DPKOptimWrapperConstructor',
    clip_grad=_base_.optim_wrapper.clip_grad.to_dict(),
    architecture=dict(optimizer=_base_.optim_wrapper.optimizer.to_dict()),
    distiller=dict(optimizer=dict(type='AdamW', lr=1e-3, weight_decay=1e-4)),
)
