# ImageNet: data, schedule and losses of the text; a config of a pair gives the two networks and the
# sizes of the transformation modules. The authors' code differs in its recipe: eight times this
# batch, AdamW for the transformation modules, RandAugment, and a student that is trained already.
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
    checkpoint=dict(interval=1, max_keep_ckpts=2, save_best='accuracy/top1', rule='greater')
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
    # L = L_cls + 0.8 L_logits + 0.2 L_feat (Eq. 3)
    distiller=dict(
        type='DPKDistiller',
        student_recorders=dict(
            logits=dict(type='ModuleOutputs', source='head.fc'),
            backbone=dict(type='ModuleOutputs', source='backbone'),
        ),
        teacher_recorders=dict(
            logits=dict(type='ModuleOutputs', source='head.fc'),
            backbone=dict(type='ModuleOutputs', source='backbone'),
        ),
        distill_losses=dict(
            loss_kd=dict(type='KLDivergence', tau=1.0, loss_weight=0.8),
            loss_dpk=dict(
                type='DPKLoss',
                loss_weight=0.2,
                # the sides of the teacher's features at 224x224
                transforms=dict(
                    second_last=dict(position_grid=(14, 14)), last=dict(position_grid=(7, 7))
                ),
            ),
        ),
        loss_forward_mappings=dict(
            loss_kd=dict(
                preds_S=dict(recorder='logits', from_student=True),
                preds_T=dict(recorder='logits', from_student=False),
            ),
            loss_dpk=dict(
                student_feats=dict(recorder='backbone', from_student=True),
                teacher_feats=dict(recorder='backbone', from_student=False),
            ),
        ),
    ),
)

find_unused_parameters = False

custom_imports = dict(imports=['dpk_mm'], allow_failed_imports=False)
custom_hooks = [
    dict(type='mmrazor.CKAMaskRatioHook', samples='images'),
    dict(type='mmrazor.StudentCheckpointHook'),
]
