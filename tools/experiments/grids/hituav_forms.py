# Forms of DPK for detectors on HIT-UAV, on validation images, with seeds that the decision does not have: exploratory.
# See configs/experiments/PLAN.md.
from tools.experiments.detectors import student, teacher

title = 'HIT-UAV, Faster R-CNN: forms of DPK, on validation images'
metric = 'coco/bbox_mAP'
data = dict(kind='coco_split', num_val=300)
references = ('fgd',)
parts = ('val',)

LOSSES = 'model.distiller.distill_losses'
FGD = {f'{LOSSES}.loss_fgd.loss_weight': 0.3}  # chosen by hituav_settings
DPK = {f'{LOSSES}.loss_dpk.loss_weight': 0.3}


def fine(key, value):
    return {f'{LOSSES}.loss_dpk.transforms.{level}.{key}': value for level in ('P2', 'P3')}


entries = [teacher('hituav', 32)]
for seed in (100, 101):
    entries += [
        student('hituav', 'fgd', seed, 32, FGD),
        student('hituav', 'sum', seed, 32, FGD | DPK),
        student('hituav_fine', 'dpk', seed, 32, DPK, name='dpk_fine'),
        student('hituav_fine', 'sum', seed, 32, FGD | DPK, name='sum_fine'),
        student(
            'hituav_fine',
            'sum',
            seed,
            32,
            FGD | DPK | fine('student_embed', 'tied') | fine('teacher_encoder', 'shared'),
            name='sum_fine_tied',
        ),
        student(
            'hituav_fine',
            'sum',
            seed,
            32,
            FGD | DPK | fine('prior', 'none'),
            name='no_prior_sum_fine',
        ),
    ]
