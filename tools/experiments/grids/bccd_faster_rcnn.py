# Blood cells with a Faster R-CNN: one small student, teachers of two widths. The student trains on 40 images, the
# teachers on 150, settings are chosen on 55 others, and the 87 images of the validation file are the held-out part.
from functools import partial

from tools.experiments import blood_cells
from tools.experiments.blood_cells import teacher

# as these grids were run: all of a student starts from random weights
student = partial(blood_cells.student, inherit=False)

title = 'BCCD, Faster R-CNN: one student, two teachers'
metric = 'coco/bbox_mAP'
data = dict(kind='coco_split', num_val=55)
references = ('baseline', 'fgd')
detector = 'faster_rcnn'
widths = (16, 32)
seeds = (0, 1, 2)
# What bccd_faster_rcnn_weights.py found best on the 55 images, with one seed.
rates = dict(baseline=4e-3, fgd=4e-3, dpk=4e-3)
factors = dict(fgd=0.1, dpk=0.3)
levels = dict(without_level='P3')  # of DPK; there it is FGD alone, as on P2

# One teacher of each width for all seeds, as in the paper: the spread is the students'.
entries = [teacher(detector, width, 0) for width in reversed(widths)]
entries += [student(detector, 'baseline', seed, rates['baseline']) for seed in seeds]
entries += [
    student(detector, method, seed, rates[method], width, factors[method], **more)
    for seed in seeds
    for width in reversed(widths)
    for method, more in (('fgd', {}), ('dpk', levels))
]
