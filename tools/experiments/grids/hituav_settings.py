# Settings on HIT-UAV, three of every method, chosen on training images that nothing is trained on. Seeds that the
# decision does not have. See configs/experiments/PLAN.md.
from tools.experiments.detectors import settings

title = 'HIT-UAV, Faster R-CNN: settings, chosen on validation images'
metric = 'coco/bbox_mAP'
data = dict(kind='coco_split', num_val=300)
references = ('baseline', 'fgd')
parts = ('val',)
# What the first entries find best for FGD, by the mean of both seeds; the forms come after them.
fgd_weight = 1.0

entries = settings('hituav', width=32, seeds=(100, 101), fgd_weight=fgd_weight)
