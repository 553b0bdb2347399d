# One small student (width 8), teachers of three widths, six methods, three seeds. Each seed has
# teachers of its own, so that the spread holds that of the teachers.
# Loss weights and learning rates are what sensitivity.py found best on the validation images; but
# without a prior the weight is that of the others, since its two runs with it blew up in their first steps,
# before the configs clipped gradients.
title = 'Fashion-MNIST: one student, three teachers'
metric = 'accuracy/top1'
data = dict(kind='fashion_mnist')
references = ('baseline', 'kd')
widths = (8, 16, 24)
seeds = (0, 1, 2)
weights = dict(kd=0.8, fitnets=250.0, dpk_no_prior=250.0, dpk_fixed=250.0, dpk=250.0)
# of those that are not best at the configs' 0.2
rates = {method: {'optim_wrapper.optimizer.lr': 0.4} for method in ('baseline', 'kd')}

folder = 'configs/experiments/fashion'
prefix = 'model.distiller.distill_losses'


def network(prefix, width):
    return {
        f'{prefix}.backbone.stem_channels': width,
        f'{prefix}.backbone.base_channels': width,
        f'{prefix}.head.in_channels': 8 * width,
    }


def student_options(method, width):
    options = {**network('model.teacher', width), **rates.get(method, {})}
    options[f'{prefix}.loss_kd.loss_weight'] = weights['kd']
    if method != 'kd':
        options[f'{prefix}.loss_feat.transforms.last.teacher_channels'] = 8 * width
        options[f'{prefix}.loss_feat.loss_weight'] = weights[method]
    return options


entries = [
    # the longest first, so that no worker is left alone with it at the end
    dict(
        name=f'teacher-w{width}-s{seed}',
        config=f'{folder}/teacher.py',
        method='teacher',
        label=f'width {width}',
        seed=seed,
        options=network('model', width),
    )
    for width in reversed(widths)
    for seed in seeds
]
entries += [
    dict(
        name=f'baseline-s{seed}',
        config=f'{folder}/alone.py',
        method='baseline',
        seed=seed,
        options=rates['baseline'],
    )
    for seed in seeds
]
entries += [
    dict(
        name=f'{method}-w{width}-s{seed}',
        config=f'{folder}/{method}.py',
        method=method,
        seed=seed,
        teacher=f'teacher-w{width}-s{seed}',
        options=student_options(method, width),
    )
    # seed by seed: a grid that is stopped early has whole comparisons
    for seed in seeds
    for width in widths
    for method in weights
]
