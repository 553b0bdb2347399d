_base_ = '../mini_fashion.py'

model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='DPKDistill',
    # `to_dict` copies: a change of the one must not reach the other.
    architecture=dict(_base_.model.to_dict(), _scope_='mmpretrain'),
    teacher=dict(
        _base_.model.to_dict(),
        _scope_='mmpretrain',
        backbone=dict(_base_.model.backbone.to_dict(), stem_channels=16, base_channels=16),
        head=dict(_base_.model.head.to_dict(), in_channels=128),
    ),
    teacher_ckpt='work_dirs/fashion_cnn_teacher/epoch_15.pth',
    teacher_command='python tools/train.py configs/mini/fashion_cnn_teacher.py',
    distiller=dict(type='DPKDistiller', records=dict(feats='backbone', logits='head.fc')),
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
