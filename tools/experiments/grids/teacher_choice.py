# Which of five teachers is the best for each of two students? Every pair is trained, so that the answers of
# tools/select_teacher.py can be measured against the truth (tools/experiments/teacher_choice.py). All students have KD
# alone, where the teachers differ most. The teachers are one checkpoint each: what is chosen between are files.
# Two of them are traps: one was trained with label smoothing, which makes a good classifier and a bad teacher, and one
# on nothing but the student's own 1,000 images, about which it is sure of everything.
title = 'Fashion-MNIST: five teachers, two students'
metric = 'accuracy/top1'
data = dict(kind='fashion_mnist')
references = ('baseline',)
seeds = (0, 1, 2)
widths = (8, 4)

folder = 'configs/experiments/fashion'
# Well below half of the schedule of the other grids: 225 iterations.
student_epochs = 15
epochs = 'train_cfg.max_epochs', 'param_scheduler.T_max', 'param_scheduler.end'
images = 'train_dataloader.dataset.indices'
# A choice is made on 2,000 images that nothing was trained on, and judged on the 10,000 test images.
chosen_on = {'val_dataloader.dataset.indices': -2000}


def network(prefix, width):
    return {
        f'{prefix}.backbone.stem_channels': width,
        f'{prefix}.backbone.base_channels': width,
        f'{prefix}.head.in_channels': 8 * width,
    }


# name: (width, images, epochs, more options)
smoothing = {'model.head.loss.type': 'LabelSmoothLoss', 'model.head.loss.label_smooth_val': 0.3}
teachers = {
    'w6': (6, 8000, 3, {}),
    'w12': (12, 8000, 3, {}),
    'w16': (16, 8000, 3, {}),
    'w16-smoothed': (16, 8000, 3, smoothing),
    'w12-few': (12, 1000, 20, {}),
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
            **dict.fromkeys(epochs, student_epochs),
            **chosen_on,
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
        options={
            **network('model', width),
            **dict.fromkeys(epochs, student_epochs),
            **chosen_on,
        },
    )
    for seed in seeds
    for width in widths
]
