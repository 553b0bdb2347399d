# Forms of DPK for detectors on HIT-UAV, on validation images, with seeds that the decision does not have: exploratory.
# See configs/experiments/PLAN.md.
from tools.experiments.detectors import CANDIDATES, form, student, teacher

title = 'HIT-UAV, Faster R-CNN: forms of DPK, on validation images'
metric = 'coco/bbox_mAP'
data = dict(kind='coco_split', num_val=300)
references = ('fgd',)
parts = ('val',)
WEIGHT = 0.3  # of FGD and of DPK, chosen by hituav_settings

entries = [teacher('hituav', 32)]
for seed in (100, 101):
    fgd = {'model.distiller.distill_losses.loss_fgd.loss_weight': WEIGHT}
    entries.append(student('hituav', 'fgd', seed, 32, fgd))
    entries += [form('hituav', name, seed, 32, WEIGHT, WEIGHT) for name in CANDIDATES]
    entries.append(form('hituav', 'sum_fine', seed, 32, WEIGHT, WEIGHT, prior=False))
