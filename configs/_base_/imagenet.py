# ImageNet: data and schedule of the text; a pair gives the two networks, and a leaf the method. The authors' code
# differs in its recipe: eight times this batch, AdamW for the transformation modules, RandAugment, and a student that
# is trained already (recipes/imagenet_authors.py).
_base_ = 'mmpretrain::_base_/default_runtime.py'

dataset_type = 'ImageNet'
data_root = 'data/imagenet'

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', scale=224),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=256, edge='short'),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]

# 256 images a step in all: with several GPUs, divide by their number.
train_dataloader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type=dataset_type, data_root=data_root, split='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, data_root=data_root, split='val', pipeline=test_pipeline),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator

train_cfg = dict(by_epoch=True, max_epochs=100, val_interval=1)
val_cfg = dict()
test_cfg = dict()

optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4))
param_scheduler = dict(type='StepLR', by_epoch=True, step_size=25, gamma=0.5)
auto_scale_lr = dict(enable=False, base_batch_size=256)

default_hooks = dict(
    student_checkpoint=dict(type='mmrazor.StudentCheckpointHook'),
    distill_alarm=dict(type='mmrazor.DistillAlarmHook'),
    checkpoint=dict(interval=1, max_keep_ckpts=2, save_best='accuracy/top1', rule='greater'),
)

model = dict(
    _scope_='mmrazor',
    type='DPKDistill',
    architecture=dict(
        _scope_='mmpretrain',
        type='ImageClassifier',
        data_preprocessor=dict(
            num_classes=1000,
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            to_rgb=True,
        ),
        backbone=dict(type='ResNet', depth=18, out_indices=(2, 3)),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead',
            num_classes=1000,
            in_channels=512,
            loss=dict(type='CrossEntropyLoss'),
            topk=(1, 5),
        ),
    ),
    teacher=dict(
        _scope_='mmpretrain',
        type='ImageClassifier',
        data_preprocessor=dict(
            num_classes=1000,
            mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375],
            to_rgb=True,
        ),
        backbone=dict(type='ResNet', depth=50, out_indices=(2, 3)),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=1000, in_channels=2048),
    ),
    distiller=dict(
        type='DPKDistiller',
        # by side, so that a pair can change one of them
        records=dict(
            feats=dict(student='backbone', teacher='backbone'),
            logits=dict(student='head.fc', teacher='head.fc'),
        ),
    ),
)

find_unused_parameters = False

custom_imports = dict(imports=['dpk_mm'], allow_failed_imports=False)
