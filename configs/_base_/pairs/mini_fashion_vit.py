_base_ = '../mini_fashion_vit.py'

model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='DPKDistill',
    # `to_dict` copies: a change of the one must not reach the other.
    architecture=dict(_base_.model.to_dict(), _scope_='mmpretrain'),
    teacher=dict(
        _base_.model.to_dict(),
        _scope_='mmpretrain',
        backbone=dict(
            _base_.model.backbone.to_dict(),
            arch=dict(embed_dims=64, num_layers=6, num_heads=4, feedforward_channels=128),
        ),
        head=dict(_base_.model.head.to_dict(), in_channels=64),
    ),
    teacher_ckpt='work_dirs/fashion_vit_teacher/epoch_15.pth',
    teacher_command='python tools/train.py configs/mini/fashion_vit_teacher.py',
    # tokens of the middle block and of the last one
    distiller=dict(
        type='DPKDistiller',
        records=dict(
            feats=dict(
                student=['backbone.layers.1', 'backbone.layers.3'],
                teacher=['backbone.layers.2', 'backbone.layers.5'],
            ),
            logits='head.layers.head',
        ),
    ),
)

find_unused_parameters = False

default_hooks = dict(
    student_checkpoint=dict(type='mmrazor.StudentCheckpointHook'),
    distill_alarm=dict(type='mmrazor.DistillAlarmHook'),
)

# How tools/experiments/compare.py gets the data and trains the teacher, on three times the student's images. It
# validates on the last training images, which neither of the two is trained on, and tests on the test images.
comparison = dict(
    data=dict(kind='fashion_mnist', num_val=10000),
    teacher=dict(train_dataloader=dict(dataset=dict(indices=18000))),
)
