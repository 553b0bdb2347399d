# What the methods on Fashion-MNIST depend on: learning rate and loss weight of each, what the features
# give without logits, and of DPK patch size, depths and learning rate of the modules. All on the
# validation images; nothing here sees the test images.
title = 'Fashion-MNIST: settings, chosen on validation images'
metric = 'accuracy/top1'
data = dict(kind='fashion_mnist')
references = ('baseline', 'kd')
parts = ('val',)
seeds = (0, 1)  # of the teachers

folder = 'configs/experiments/fashion'
kd = 'model.distiller.distill_losses.loss_kd.loss_weight'
feat = 'model.distiller.distill_losses.loss_feat.loss_weight'
stage = 'model.distiller.distill_losses.loss_feat.transforms.last'
modules = 'optim_wrapper.distiller.optimizer.lr'
# around which everything but the loss weight is varied
base = 50.0
features = ('fitnets', 'dpk_no_prior', 'dpk_fixed', 'dpk')

# (method, what is shown, options, seeds). What is chosen from has two seeds, the rest shows trends.
settings = [
    ('baseline', {'lr': lr}, {'optim_wrapper.optimizer.lr': lr}, (0, 1)) for lr in (0.1, 0.2, 0.4)
]
settings += [('kd', {'weight': weight}, {kd: weight}, (0, 1)) for weight in (0.2, 0.8, 3.2)]
# 0.2 is the paper's, for networks and images of another kind
settings += [
    (method, {'weight': weight}, {feat: weight}, (0, 1))
    for weight in (0.2, 10.0, base, 250.0)
    for method in features
]
settings += [('kd', {'lr': 0.4}, {'optim_wrapper.optimizer.lr': 0.4}, (0,))]
settings += [
    (method, {'lr': 0.4}, {feat: base, 'optim_wrapper.architecture.optimizer.lr': 0.4}, (0,))
    for method in ('fitnets', 'dpk')
]
# What the feature gives where no logits help.
settings += [
    (method, {'weight': weight, 'KD weight': 0}, {feat: weight, kd: 0.0}, (0,))
    for weight in (base, 250.0)
    for method in features
]
settings += [
    (method, {'module lr': lr}, {feat: base, modules: lr}, (0,))
    for method in ('fitnets', 'dpk')
    for lr in (1e-4, 5e-3)
]
settings += [
    (
        'dpk',
        {'depths': f'{encoder}-{decoder}'},
        {feat: base, f'{stage}.encoder_depth': encoder, f'{stage}.decoder_depth': decoder},
        (0,),
    )
    for encoder, decoder in ((1, 1), (4, 4))
]
settings += [('dpk', {'patch size': 2}, {feat: base, f'{stage}.patch_size': 2}, (0,))]
late = 'default_hooks.mask_ratio.one_step_late'
settings += [('dpk', {'ratio': 'one step late'}, {feat: base, late: True}, (0, 1))]

# The teacher in the middle of those of fashion_teachers.py.
width = 16


def network(prefix):
    return {
        f'{prefix}.backbone.stem_channels': width,
        f'{prefix}.backbone.base_channels': width,
        f'{prefix}.head.in_channels': 8 * width,
    }


def student_options(method):
    if method == 'baseline':
        return {}
    if method == 'kd':
        return network('model.teacher')
    return {**network('model.teacher'), f'{stage}.teacher_channels': 8 * width}


def entry_name(method, shown, seed):
    words = [f'{key}-{value}'.replace(' ', '-') for key, value in shown.items()]
    return '-'.join([method, *words, f's{seed}'])


entries = [
    dict(
        name=f'teacher-s{seed}',
        config=f'{folder}/teacher.py',
        method='teacher',
        label=f'width {width}',
        seed=seed,
        options=network('model'),
    )
    for seed in seeds
]
entries += [
    dict(
        name=entry_name(method, shown, seed),
        config=f'{folder}/{"alone" if method == "baseline" else method}.py',
        method=method,
        seed=seed,
        teacher=None if method == 'baseline' else f'teacher-s{seed}',
        setting=shown,
        options={**student_options(method), **options},
    )
    for method, shown, options, of_seeds in settings
    for seed in of_seeds
]
