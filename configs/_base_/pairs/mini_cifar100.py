_base_ = '../mini_cifar100.py'

TEACHER = dict(depth=8, widths=(24, 24, 48, 96), strides=(2, 2, 2))
ASSISTANT = dict(depth=8, widths=(12, 12, 24, 48), strides=(2, 2, 2))

model = dict(
    _delete_=True,
    _scope_='mmrazor',
    type='DPKDistill',
    # `to_dict` copies: a change of the one must not reach the other.
    architecture=dict(_base_.model.to_dict(), _scope_='mmpretrain'),
    teacher=dict(
        _base_.model.to_dict(),
        _scope_='mmpretrain',
        backbone=dict(_base_.model.backbone.to_dict(), arch=TEACHER),
        head=dict(_base_.model.head.to_dict(), in_channels=96),
    ),
    teacher_ckpt='work_dirs/compare/mini_cifar100/teacher-s0/epoch_10.pth',
    teacher_command='python tools/experiments/compare.py mini_cifar100 --methods kd --data FOLDER',
    distiller=dict(type='DPKDistiller', records=dict(feats='backbone', logits='head.fc')),
)

find_unused_parameters = False

default_hooks = dict(student_checkpoint=dict(type='mmrazor.StudentCheckpointHook'))

# How tools/experiments/compare.py gets the data and trains what the students need.
comparison = dict(
    pair='mini/cifar100',
    data=dict(kind='image_folders', every_class=5, val=50, subsets=dict(teacher=250, student=50)),
    # five times the student's images
    teacher=dict(
        train_dataloader=dict(batch_size=64, dataset=dict(ann_file='teacher.txt')),
        optim_wrapper=dict(optimizer=dict(lr=0.1)),
        train_cfg=dict(max_epochs=10),
        param_scheduler=dict(T_max=10, end=10),
    ),
    # between teacher and student, from the larger to the smaller
    assistants=[dict(backbone=dict(arch=ASSISTANT), head=dict(in_channels=48))],
    # epochs after which the early-stopped teacher is taken
    early_stop=4,
)
