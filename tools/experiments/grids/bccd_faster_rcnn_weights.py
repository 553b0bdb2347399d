# Faster R-CNN on the blood cells: learning rate of the baseline; one factor of all terms of FGD, and of DPK + FGD.
# Chosen on 55 of the training images; nothing here sees the held-out part.
from functools import partial

from tools.experiments import blood_cells
from tools.experiments.blood_cells import teacher

# as these grids were run: all of a student starts from random weights
student = partial(blood_cells.student, inherit=False)

title = 'BCCD, Faster R-CNN: settings, chosen on validation images'
metric = 'coco/bbox_mAP'
data = dict(kind='coco_split', num_val=55)
references = ('baseline', 'fgd')
parts = ('val',)
detector, width, seed = 'faster_rcnn', 16, 0  # the smaller of the teachers of bccd_faster_rcnn.py

entries = [teacher(detector, width, seed)]
entries += [student(detector, 'baseline', seed, lr, setting={'lr': lr}) for lr in (2e-3, 4e-3)]
entries += [
    student(detector, method, seed, 4e-3, width, factor, setting={'weight': factor})
    for factor in (0.1, 0.3)
    for method in ('fgd', 'dpk')
]
# As in the paper, where two levels have DPK.
entries += [
    student(
        detector,
        'dpk',
        seed,
        4e-3,
        width,
        factor,
        setting={'weight': factor, 'levels': 'P4 and P5'},
        without_level='P3',
    )
    for factor in (0.1, 0.3)
]
