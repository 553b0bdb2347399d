# Faster R-CNN on the blood cells: one factor of all terms of FGD, and of DPK + FGD; learning rate of the
# student alone. Chosen on 55 of the training images; nothing here sees the held-out part.
title = 'BCCD, Faster R-CNN: weights, chosen on validation images'
metric = 'coco/bbox_mAP'
data = dict(kind='coco_split', num_val=55)
baselines = ('alone', 'fgd')
parts = ('val',)
seeds = (0,)  # one: a rough choice, the same for all methods
factors = (0.1, 0.3, 1.0)
width = 16  # the smaller of the teachers of bccd_faster_rcnn.py

config = 'configs/experiments/bccd/faster_rcnn_{}.py'


def backbone(prefix):
    return {
        f'{prefix}.backbone.base_channels': width,
        f'{prefix}.neck.in_channels': [width, 2 * width, 4 * width, 8 * width],
    }


entries = [
    dict(
        name=f'teacher-s{seed}',
        config=config.format('teacher'),
        method='teacher',
        label=f'width {width}',
        seed=seed,
        options=backbone('model'),
    )
    for seed in seeds
]
entries += [
    dict(
        name=f'alone-lr-{lr}-s{seed}',
        config=config.format('alone'),
        method='alone',
        seed=seed,
        setting={'lr': lr},
        options={'optim_wrapper.optimizer.lr': lr},
    )
    for lr in (1e-3, 2e-3)
    for seed in seeds
]
entries += [
    dict(
        name=f'{method}-weight-{factor}-s{seed}',
        config=config.format(method),
        method=method,
        seed=seed,
        teacher=f'teacher-s{seed}',
        setting={'weight': factor},
        options={
            **backbone('model.teacher'),
            'model.distiller.distill_losses.loss_feat.loss_weight': factor,
        },
    )
    for factor in factors
    for method in ('fgd', 'dpk')
    for seed in seeds
]
