# ImageNet as the authors' code trains it, where that differs from the paper's text; see configs/dpk/authors.
# Not taken over: CKA out of range becomes a ratio of 0.8 there, and is clamped to max_ratio here.
_base_ = '../imagenet_augmented.py'

# 256 images per GPU, on eight of them, two batches a step
train_dataloader = dict(batch_size=256)
auto_scale_lr = dict(base_batch_size=2048)

# The published log ends after 102 epochs.
train_cfg = dict(max_epochs=200)

optim_wrapper = dict(
    _delete_=True,
    constructor='mmrazor.DPKOptimWrapperConstructor',
    accumulative_counts=2,
    architecture=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4)),
    # the transformation modules; no decay of biases, norms and other vectors
    distiller=dict(
        optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.95), weight_decay=1e-4),
        paramwise_cfg=dict(flat_decay_mult=0.0),
    ),
)
param_scheduler = dict(
    _delete_=True,
    architecture=[dict(type='StepLR', by_epoch=True, step_size=25, gamma=0.5)],
    # 1e-6 to 1e-4, then down to 1e-5; whether their cosine counts the warm-up epochs is not known
    distiller=[
        dict(type='LinearLR', start_factor=0.01, end=20, convert_to_iter_based=True),
        dict(
            type='CosineAnnealingLR',
            eta_min=1e-5,
            T_max=180,
            begin=20,
            end=200,
            convert_to_iter_based=True,
        ),
    ],
)

model = dict(
    architecture=dict(head=dict(loss=dict(loss_weight=0.8))),
)

default_hooks = dict(
    mask_ratio=dict(type='mmrazor.CKAMaskRatioHook', samples='images', min_ratio=0.1, max_ratio=0.9)
)
