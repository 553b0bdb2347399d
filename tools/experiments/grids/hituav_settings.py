# Settings on HIT-UAV, three of every method, chosen on training images that nothing is trained on. A seed that the
# decision does not have. See configs/experiments/PLAN.md.
from tools.experiments.chosen import chosen_settings
from tools.experiments.detectors import settings

title = 'HIT-UAV, Faster R-CNN: settings, chosen on validation images'
metric = 'coco/bbox_mAP'
data = dict(kind='coco_split', num_val=300)
references = ('baseline', 'fgd')
parts = ('val',)
# Of the forms, on the levels that have no DPK: what the first entries find best for FGD. The forms are not in the grid
# before these results are committed.
fgd_weight = chosen_settings('hituav_settings', missing_ok=True).get('fgd')

entries = settings('hituav', width=32, seeds=(100,), fgd_weight=fgd_weight)
