# Blood cells with a RetinaNet: one small student, teachers of two widths. The student trains on 40 images, the
# teachers on 150, settings are chosen on 55 others, and the 87 images of the validation file are the held-out part.
from functools import partial

from tools.experiments import blood_cells
from tools.experiments.blood_cells import teacher

# as these grids were run: all of a student starts from random weights
student = partial(blood_cells.student, inherit=False)

title = 'BCCD, RetinaNet: one student, two teachers'
metric = 'coco/bbox_mAP'
data = dict(kind='coco_split', num_val=55)
references = ('baseline', 'fgd')
detector = 'retinanet'
widths = (16, 32)
seeds = (0, 1, 2)
# What bccd_retinanet_weights.py found best on the 55 images, with one seed.
rates = dict(baseline=4e-3, fgd=4e-3, dpk=4e-3)
factors = dict(fgd=0.3, dpk=0.3)
levels = dict(without_level='P3')  # of DPK; there it is FGD alone, as on the paper's finest level

# One teacher of each width for all seeds, as in the paper: the spread is the students'.
entries = [teacher(detector, width, 0) for width in reversed(widths)]
entries += [student(detector, 'baseline', seed, rates['baseline']) for seed in seeds]
entries += [
    student(detector, method, seed, rates[method], width, factors[method], **more)
    for seed in seeds
    for width in reversed(widths)
    for method, more in (('fgd', {}), ('dpk', levels))
]
# Variants of DPK with its settings, under the larger teacher: nothing from the teacher in the student's feature, and
# encoders and decoder that have been trained before, with the student of another seed.
width = max(widths)
entries += [
    student(detector, 'dpk_no_prior', seed, rates['dpk'], width, factors['dpk'], **levels)
    for seed in seeds
]


def with_trained_modules(entry, source):
    start = 'model.distiller.init_cfg'
    return dict(
        entry,
        name=entry['name'].replace('dpk', 'dpk_trained_modules'),
        method='dpk_trained_modules',
        options={
            **entry['options'],
            f'{start}.type': 'Pretrained',
            f'{start}.prefix': 'distiller.',
        },
        checkpoints={f'{start}.checkpoint': source},
    )


entries += [
    with_trained_modules(
        student(detector, 'dpk', seed, rates['dpk'], width, factors['dpk'], **levels),
        f'dpk-w{width}-s{(seed + 1) % len(seeds)}',
    )
    for seed in seeds
]
