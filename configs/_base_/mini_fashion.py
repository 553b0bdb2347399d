# Fashion-MNIST, the small student alone, and a schedule of minutes on two CPU cores. The four
# unpacked IDX files of the data set are expected in `data/fashion_mnist`; nothing is downloaded.
_base_ = 'mmpretrain::_base_/default_runtime.py'

model = dict(
    type='ImageClassifier',
    # one channel, 28x28. The first stage halves the maps, which is a quarter of the work: stages of
    # 14, 14, 7 and 4 cells a side.
    data_preprocessor=dict(num_classes=10, mean=[72.94], std=[90.02], to_rgb=False),
    backbone=dict(
        type='ResNet_CIFAR',
        depth=18,
        in_channels=1,
        stem_channels=8,
        base_channels=8,
        strides=(2, 1, 2, 2),
        out_indices=(2, 3),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=64,
        loss=dict(type='CrossEntropyLoss'),
        topk=(1, 5),
    ),
)

dataset_type = 'FashionMNIST'
data_root = 'data/fashion_mnist'

train_dataloader = dict(
    batch_size=128,
    num_workers=1,
    persistent_workers=True,
    # CKA of a last batch of a few images says little
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='train',
        download=False,
        # with all 60,000 the student needs no teacher
        indices=6000,
        pipeline=[
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='PackInputs'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=500,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='test',
        # `split` alone gives the training images
        test_mode=True,
        download=False,
        pipeline=[dict(type='PackInputs')],
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator

# mmengine validates after the last epoch whatever the interval, and earlier there is no need.
train_cfg = dict(by_epoch=True, max_epochs=15, val_interval=100)
val_cfg = dict()
test_cfg = dict()

optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4))
param_scheduler = dict(
    type='CosineAnnealingLR', T_max=15, end=15, by_epoch=True, convert_to_iter_based=True
)
auto_scale_lr = dict(enable=False, base_batch_size=128)

default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=1, max_keep_ckpts=2))
randomness = dict(seed=0)

custom_imports = dict(imports=['dpk_mm'], allow_failed_imports=False)
