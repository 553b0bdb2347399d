# What a gain of DPK + FGD on the drawn shapes is made of: controls, the factor of DPK's levels, and forms of DPK.
# Exploratory: rows are added where the ones before ask for them.
from tools.experiments.detectors import students, teacher

title = 'Drawn shapes, Faster R-CNN: controls and forms of DPK'
metric = 'coco/bbox_mAP'
data = dict(kind='shapes')
references = ('fgd', 'fgd_without', 'dpk_x10')
first = ('fgd', 'dpk_x10', 'no_prior_x10', 'fgd_without', 'teacher_only_x10')
second = ('dpk', 'share_0.3', 'no_prior_share_0.3', 'share_1', 'zeros_x10', 'sum_x10')
apart = tuple(f'{row}_clipped_apart' for row in first)
faster = tuple(f'{row}_lr_2e-3' for row in ('fgd', 'dpk_x10'))
weights = (
    'dpk_x30',
    'dpk_x3',
    'fgd_x3',
    'fgd_x30',
    'no_prior',
    'sum',
    'fixed_0.5_x10',
    'blocks_1_1_x10',
    'blocks_4_4_x10',
    'fixed_0.1_x10',
    'fixed_0.9_x10',
)
forms = (
    'warmup_x10',
    'orthogonal_x10',
    'tied_x10',
    'foreground_given_x10',
    'foreground_withheld_x10',
    'shared_encoder_x10',
    'average_encoder_x10',
)

entries = [teacher('shapes')]
entries += students('shapes', first, (0,))
entries += students('shapes', (*second, 'baseline', 'fgd_x10'), (0,))
entries += students('shapes', apart, (0,))
entries += students('shapes', first, (1, 2))
entries += students(
    'shapes',
    (*faster, 'fgd_clipped_apart', 'dpk_x10_clipped_apart', 'teacher_only_x10_clipped_apart'),
    (1, 2),
)
entries += students('shapes', faster, (0,))
entries += students('shapes', weights, (0,))
entries += students('shapes', ('fgd', 'dpk_x10'), (0,), inherit=False)
entries += students('shapes', forms, (0,))
entries += students('shapes', ('no_prior_x10_clipped_apart', 'fgd_without_clipped_apart'), (1, 2))
entries += students('shapes', first, (3, 4))
entries += students('shapes', second, (1,))
entries += students('shapes', ('fgd', 'dpk_x10'), (1, 2), inherit=False)
