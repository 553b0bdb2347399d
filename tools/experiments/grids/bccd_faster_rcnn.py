# Blood cells with a Faster R-CNN: one small student, teachers of two widths, alone, FGD, DPK + FGD.
# 150 of the 205 training images are trained on, settings are chosen on the other 55, and the 87
# images of the validation file are the held-out part. `weights` are the factors of the configs' own
# weights that bccd_faster_rcnn_weights.py found best on these 55, with one seed.
title = 'BCCD, Faster R-CNN: one student, two teachers'
metric = 'coco/bbox_mAP'
data = dict(kind='coco_split', num_val=55)
baselines = ('alone', 'fgd')
widths = (16, 32)
seeds = (0, 1, 2)
weights = dict(fgd=0.3, dpk=0.3)
# the better one of the student alone; the factors were chosen at 1e-3
lr = 2e-3

config = 'configs/experiments/bccd/faster_rcnn_{}.py'


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
    dict(
        name=f'alone-s{seed}',
        config=config.format('alone'),
        method='alone',
        seed=seed,
        options={'optim_wrapper.optimizer.lr': lr},
    )
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
            'optim_wrapper.architecture.optimizer.lr': lr,
            'model.distiller.distill_losses.loss_feat.loss_weight': weights[method],
        },
    )
    for seed in seeds
    for width in widths
    for method in weights
]
