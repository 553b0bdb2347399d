# Which of five teachers is the best for each of two students? Every pair is trained, so that the answers of
# tools/select_teacher.py can be measured against the truth (tools/experiments/teacher_choice.py). All students have KD
# alone, where teachers differ most. The teachers are one checkpoint each: what is chosen between are files.
# Two of them are traps: one was trained with label smoothing, which makes a good classifier and a bad teacher, and one
# on nothing but the student's own 1,000 images, about which it is sure of everything.
title = 'Fashion-MNIST: five teachers, two students'
metric = 'accuracy/top1'
data = dict(kind='fashion_mnist')
references = ('baseline',)
seeds = (0, 1, 2)
widths = (8, 4)

folder = 'configs/experiments/fashion'
epochs = 'train_cfg.max_epochs', 'param_scheduler.T_max', 'param_scheduler.end'
images = 'train_dataloader.dataset.indices'


def network(prefix, width):
    return {
        f'{prefix}.backbone.stem_channels': width,
        f'{prefix}.backbone.base_channels': width,
        # a third of the work of the other grids' networks
        f'{prefix}.backbone.strides': (2, 2, 2, 2),
        f'{prefix}.head.in_channels': 8 * width,
    }


# 155 iterations on 1,000 images, which one busy core does in a minute or two. A choice is made on 1,000 images that
# nothing was trained on, and judged on the first 4,000 test images.
of_students = {
    **dict.fromkeys(epochs, 5),
    'train_dataloader.batch_size': 32,
    'optim_wrapper.optimizer.lr': 0.1,
    'val_dataloader.dataset.indices': -1000,
    'test_dataloader.dataset.indices': 4000,
}

# name: (width, images, epochs, more options)
smoothing = {'model.head.loss.type': 'LabelSmoothLoss', 'model.head.loss.label_smooth_val': 0.3}
teachers = {
    'w6': (6, 6000, 3, {}),
    'w12': (12, 6000, 3, {}),
    'w16': (16, 6000, 3, {}),
    'w16-smoothed': (16, 6000, 3, smoothing),
    'w12-few': (12, 1000, 14, {}),
}

entries = [
    dict(
        name=f'teacher-{name}',
        config=f'{folder}/teacher.py',
        method='teacher',
        label=name,
        options={
            **network('model', width),
            images: count,
            **dict.fromkeys(epochs, length),
            'val_dataloader.dataset.indices': -2000,
            **options,
        },
    )
    for name, (width, count, length, options) in teachers.items()
]
entries += [
    dict(
        name=f'student-w{width}-{name}-s{seed}',
        config=f'{folder}/kd.py',
        method='kd',
        seed=seed,
        teacher=f'teacher-{name}',
        setting={'student width': width},
        options={
            **network('model.teacher', teachers[name][0]),
            **network('model.architecture', width),
            **of_students,
        },
    )
    # seed by seed: a grid that is stopped early has whole comparisons
    for seed in seeds
    for width in widths
    for name in teachers
]
entries += [
    dict(
        name=f'baseline-w{width}-s{seed}',
        config=f'{folder}/alone.py',
        method='baseline',
        seed=seed,
        setting={'student width': width},
        options={**network('model', width), **of_students},
    )
    for seed in seeds
    for width in widths
]
# For the pictures of docs/pictures.md: the first student with DPK under a small and a large teacher.
loss = 'model.distiller.distill_losses.loss_feat'
entries += [
    dict(
        name=f'dpk-w8-{name}-s0',
        config=f'{folder}/dpk.py',
        method='dpk',
        teacher=f'teacher-{name}',
        setting={'student width': 8},
        options={
            **network('model.teacher', teachers[name][0]),
            **network('model.architecture', 8),
            **{k: v for k, v in of_students.items() if 'optim_wrapper' not in k},
            'optim_wrapper.architecture.optimizer.lr': 0.1,
            f'{loss}.loss_weight': 250.0,
            f'{loss}.transforms.last.teacher_channels': 8 * teachers[name][0],
        },
    )
    for name in ('w6', 'w16')
]
