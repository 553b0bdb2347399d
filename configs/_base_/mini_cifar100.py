# CIFAR-100 as folders of images, 20 of the classes, and a schedule of a minute on one CPU core.
# `tools/experiments/compare.py --data FOLDER` writes the lists; nothing is downloaded.
_base_ = 'mmpretrain::_base_/default_runtime.py'

model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        num_classes=20,
        mean=[0.5071 * 255, 0.4867 * 255, 0.4408 * 255],
        std=[0.2675 * 255, 0.2565 * 255, 0.2761 * 255],
        to_rgb=True,
    ),
    # the first stage halves the maps: stages of 16, 8 and 4 cells a side, a quarter of the work
    backbone=dict(
        type='CIFARResNet',
        arch=dict(depth=8, widths=(8, 8, 16, 32), strides=(2, 2, 2)),
        out_indices=(2, 3),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=20,
        in_channels=32,
        loss=dict(type='CrossEntropyLoss'),
        topk=(1, 5),
    ),
)

dataset_type = 'CustomDataset'
data_root = 'data/cifar100/lists'

train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    # CKA of a last batch of a few images says little
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        # 50 images of each class; with all the student needs no teacher
        ann_file='student.txt',
        data_prefix=dict(img_path='../train'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='RandomCrop', crop_size=32, padding=4),
            dict(type='RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='PackInputs'),
        ],
    ),
)
# Settings are chosen on training images that nothing is trained on; the test images are held out.
val_dataloader = dict(
    batch_size=500,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='val.txt',
        data_prefix=dict(img_path='../train'),
        test_mode=True,
        pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
    ),
)
test_dataloader = dict(
    val_dataloader,
    dataset=dict(
        val_dataloader['dataset'], ann_file='test.txt', data_prefix=dict(img_path='../test')
    ),
)

val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_evaluator = val_evaluator

# mmengine validates after the last epoch whatever the interval, and earlier there is no need.
train_cfg = dict(by_epoch=True, max_epochs=20, val_interval=1000)
val_cfg = dict()
test_cfg = dict()

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4),
    # Above what the cross entropy and KD have. A new encoder-decoder begins with a few gradients of hundreds.
    clip_grad=dict(max_norm=5.0, norm_type=2),
)
param_scheduler = dict(
    type='CosineAnnealingLR', T_max=20, end=20, by_epoch=True, convert_to_iter_based=True
)
auto_scale_lr = dict(enable=False, base_batch_size=32)

default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=4, max_keep_ckpts=1))
randomness = dict(seed=0)

custom_imports = dict(imports=['dpk_mm'], allow_failed_imports=False)
