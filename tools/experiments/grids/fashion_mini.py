# The mini pair on Fashion-MNIST as its configs have it: teacher, baseline, KD, DPK.
# Evaluated on the 10,000 test images; `val` are the last 10,000 training images, which no model
# of this grid has seen.
title = 'The mini pair on Fashion-MNIST'
metric = 'accuracy/top1'
data = dict(kind='fashion_mnist')
references = ('baseline', 'kd')
seeds = (0, 1, 2)

options = {
    'val_dataloader.dataset.split': 'train',
    'val_dataloader.dataset.test_mode': False,
    'val_dataloader.dataset.indices': -10000,
}

config = 'configs/mini/fashion_cnn_{}.py'
entries = [
    dict(
        name=f'teacher-s{seed}',
        config=config.format('teacher'),
        method='teacher',
        label='width 16',
        seed=seed,
    )
    for seed in seeds
] + [
    dict(
        name=f'{method}-s{seed}',
        config=config.format(role),
        method=method,
        seed=seed,
        teacher=None if method == 'baseline' else f'teacher-s{seed}',
    )
    for seed in seeds
    for method, role in (('baseline', 'none'), ('kd', 'kd'), ('dpk', 'dpk'))
]
