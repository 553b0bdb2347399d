# What a gain of DPK + FGD on the drawn shapes is made of: controls, the factor of DPK's levels, and forms of DPK.
# Exploratory: rows are added where the ones before ask for them.
from tools.experiments.detectors import students, teacher

title = 'Drawn shapes, Faster R-CNN: controls and forms of DPK'
metric = 'coco/bbox_mAP'
data = dict(kind='shapes')
references = ('fgd', 'fgd_without', 'dpk_x10')
first = ('fgd', 'dpk_x10', 'no_prior_x10', 'fgd_without', 'teacher_only_x10')
second = ('dpk', 'share_0.3', 'no_prior_share_0.3', 'share_1', 'zeros_x10', 'sum_x10', 'warmup_x10')
third = (
    'tied_x10',
    'orthogonal_x10',
    'shared_encoder_x10',
    'average_encoder_x10',
    'blocks_1_1_x10',
)
more = ('foreground_given_x10', 'foreground_withheld_x10', 'fixed_0.5_x10', 'fgd_x10', 'dpk_x30')
last = (
    'dpk_x3',
    'no_prior',
    'sum',
    'blocks_4_4_x10',
    'fixed_0.1_x10',
    'fixed_0.9_x10',
    'fgd_x3',
    'fgd_x30',
)

entries = [teacher('shapes')]
entries += students('shapes', first, (0, 1))
entries += students('shapes', (*second, 'baseline'), (0,))
entries += students('shapes', third, (0,))
entries += students('shapes', second, (1,))
entries += students('shapes', more, (0,))
entries += students('shapes', first, (2, 3, 4))
entries += students('shapes', last, (0,))
entries += students('shapes', ('fgd', 'dpk_x10'), (0, 1, 2), inherit=False)
