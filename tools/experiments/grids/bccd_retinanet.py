# Blood cells with a RetinaNet: one small student, teachers of two widths, alone, FGD, DPK + FGD.
# 150 of the 205 training images are trained on, settings are chosen on the other 55, and the 87
# images of the validation file are the held-out part. Set `weights` to the factors
# that bccd_retinanet_weights.py finds best on these 55; 1.0 are the configs' own weights.
title = 'BCCD, RetinaNet: one student, two teachers'
metric = 'coco/bbox_mAP'
data = dict(kind='coco_split', num_val=55)
baselines = ('alone', 'fgd')
widths = (16, 32)
seeds = (0, 1, 2)
weights = dict(fgd=1.0, dpk=1.0)

config = 'configs/experiments/bccd/retinanet_{}.py'


def backbone(prefix, width):
    return {
        f'{prefix}.backbone.base_channels': width,
        f'{prefix}.neck.in_channels': [width, 2 * width, 4 * width, 8 * width],
    }


entries = [
    dict(
        name=f'teacher-w{width}-s{seed}',
        config=config.format('teacher'),
        method='teacher',
        label=f'width {width}',
        seed=seed,
        options=backbone('model', width),
    )
    for width in reversed(widths)
    for seed in seeds
]
entries += [
    dict(name=f'alone-s{seed}', config=config.format('alone'), method='alone', seed=seed)
    for seed in seeds
]
entries += [
    dict(
        name=f'{method}-w{width}-s{seed}',
        config=config.format(method),
        method=method,
        seed=seed,
        teacher=f'teacher-w{width}-s{seed}',
        options={
            **backbone('model.teacher', width),
            'model.distiller.distill_losses.loss_feat.loss_weight': weights[method],
        },
    )
    for seed in seeds
    for width in widths
    for method in weights
]
