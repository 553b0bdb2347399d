_base_ = '../_base_/pairs/mini_fashion_cnn.py'
from dpk_mm.models.methods import dpk, kd  # noqa: E402

model = dict(distiller=dict(distill_losses=kd(tau=4.0) | dpk('mini/fashion_cnn')))
default_hooks = dict(mask_ratio=dict(type='mmrazor.CKAMaskRatioHook', samples='images'))

# The transformation modules are transformers and learn with AdamW, the student with SGD as it does alone.
optim_wrapper = dict(
    _delete_=True,
    constructor='mmrazor.DPKOptimWrapperConstructor',
    architecture=dict(optimizer=_base_.optim_wrapper.optimizer.to_dict()),
    distiller=dict(
        optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
        paramwise_cfg=dict(flat_decay_mult=0.0),
    ),
)
