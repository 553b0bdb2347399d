# What the methods on Fashion-MNIST depend on: loss weight of each, and of DPK patch size, depths and
# learning rate of the modules. All on the validation images; nothing here sees the test images.
# The students' budget is that of fashion_teachers.py.
title = 'Fashion-MNIST: settings, chosen on validation images'
metric = 'accuracy/top1'
data = dict(kind='fashion_mnist')
baselines = ('alone', 'kd')
parts = ('val',)
seeds = (0, 1)  # of the teachers

folder = 'configs/experiments/fashion'
kd = 'model.distiller.distill_losses.loss_kd.loss_weight'
feat = 'model.distiller.distill_losses.loss_feat.loss_weight'
stage = 'model.distiller.distill_losses.loss_feat.transforms.last'
modules = 'optim_wrapper.distiller.optimizer.lr'
# around which everything but the loss weight is varied
base = 2.0
features = ('fitnets', 'dpk_no_prior', 'dpk_fixed', 'dpk')

# (method, what is shown, options, seeds). What is chosen from has two seeds, the rest shows trends.
settings = [
    ('alone', {'lr': lr}, {'optim_wrapper.optimizer.lr': lr}, (0, 1)) for lr in (0.02, 0.05, 0.1)
]
settings += [('kd', {'weight': weight}, {kd: weight}, (0, 1)) for weight in (0.2, 0.8, 3.2)]
settings += [
    (method, {'weight': weight}, {feat: weight}, (0, 1))
    for method in features
    for weight in (0.2, base, 20.0)
]
# What the feature gives where no logits help.
settings += [
    (method, {'weight': weight, 'KD weight': 0}, {feat: weight, kd: 0.0}, (0,))
    for method in features
    for weight in (base, 20.0)
]
settings += [
    (method, {'module lr': lr}, {feat: base, modules: lr}, (0,))
    for method in features
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

# 270 iterations on 2,000 images: the fewer, the more a teacher of 20,000 has to give.
budget = {
    'train_dataloader.dataset.indices': 2000,
    'train_cfg.max_epochs': 18,
    'param_scheduler.T_max': 18,
    'param_scheduler.end': 18,
}


def entry_name(method, shown, seed):
    words = [f'{key}-{value}'.replace(' ', '-') for key, value in shown.items()]
    return '-'.join([method, *words, f's{seed}'])


entries = [
    dict(
        name=f'teacher-s{seed}',
        config=f'{folder}/teacher.py',
        method='teacher',
        label='width 24',
        seed=seed,
    )
    for seed in seeds
]
entries += [
    dict(
        name=entry_name(method, shown, seed),
        config=f'{folder}/{method}.py',
        method=method,
        seed=seed,
        teacher=None if method == 'alone' else f'teacher-s{seed}',
        setting=shown,
        options={**budget, **options},
    )
    for method, shown, options, of_seeds in settings
    for seed in of_seeds
]
