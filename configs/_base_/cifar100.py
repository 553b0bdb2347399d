# CIFAR-100: data and schedule of the text; a pair gives the two networks, and a leaf the method.
_base_ = 'mmpretrain::_base_/default_runtime.py'

dataset_type = 'CIFAR100'
data_root = 'data/cifar100'

train_pipeline = [
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [dict(type='PackInputs')]

train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=True,
    # CKA of a last batch of a few images says little
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='train',
        download=False,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        split='test',
        test_mode=True,
        download=False,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator

train_cfg = dict(by_epoch=True, max_epochs=240, val_interval=10)
val_cfg = dict()
test_cfg = dict()

# The field lowers the rate to 0.01 for MobileNetV2 and the ShuffleNets; the authors do not.
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4))
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[150, 180, 210], gamma=0.1)
auto_scale_lr = dict(enable=False, base_batch_size=64)

default_hooks = dict(
    student_checkpoint=dict(type='mmrazor.StudentCheckpointHook'),
    distill_alarm=dict(type='mmrazor.DistillAlarmHook'),
    checkpoint=dict(interval=10, max_keep_ckpts=2, save_best='accuracy/top1', rule='greater'),
)

model = dict(
    _scope_='mmrazor',
    type='DPKDistill',
    architecture=dict(
        _scope_='mmpretrain',
        type='ImageClassifier',
        data_preprocessor=dict(
            num_classes=100,
            # of the published teachers; the data set gives its images as RGB
            mean=[0.5071 * 255, 0.4867 * 255, 0.4408 * 255],
            std=[0.2675 * 255, 0.2565 * 255, 0.2761 * 255],
            to_rgb=False,
        ),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(
            type='LinearClsHead', num_classes=100, loss=dict(type='CrossEntropyLoss'), topk=(1, 5)
        ),
    ),
    teacher=dict(
        _scope_='mmpretrain',
        type='ImageClassifier',
        data_preprocessor=dict(
            num_classes=100,
            mean=[0.5071 * 255, 0.4867 * 255, 0.4408 * 255],
            std=[0.2675 * 255, 0.2565 * 255, 0.2761 * 255],
            to_rgb=False,
        ),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=100),
    ),
    distiller=dict(type='DPKDistiller', records=dict(feats='backbone', logits='head.fc')),
)

find_unused_parameters = False

custom_imports = dict(imports=['dpk_mm'], allow_failed_imports=False)
