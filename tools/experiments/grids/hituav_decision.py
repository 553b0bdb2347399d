# The decision on HIT-UAV: five seeds, two teachers, the settings of hituav_settings.py, the form of
# hituav_forms.py. See configs/experiments/PLAN.md.
from tools.experiments.chosen import best_form, chosen_settings
from tools.experiments.detectors import CANDIDATES, decision

title = 'HIT-UAV, Faster R-CNN: the decision'
metric = 'coco/bbox_mAP'
data = dict(kind='coco_split', num_val=300)
references = ('baseline', 'fgd', 'fgd_without')

entries = decision(
    'hituav',
    chosen_settings('hituav_settings'),
    seeds=(0, 1, 2, 3, 4),
    widths=(32, 16),
    form_name=best_form('hituav_forms', tuple(CANDIDATES), paper='fgd'),
)
