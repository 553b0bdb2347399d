# RetinaNet on the blood cells: learning rate of each method, and one factor of all terms of FGD and of DPK + FGD.
# Chosen on 55 of the training images; nothing here sees the held-out part.
from dpk_mm.experiments.blood_cells import student, teacher

title = 'BCCD, RetinaNet: settings, chosen on validation images'
metric = 'coco/bbox_mAP'
data = dict(kind='coco_split', num_val=55)
baselines = ('alone', 'fgd')
parts = ('val',)
detector, width, seed = 'retinanet', 16, 0  # the smaller of the teachers of bccd_retinanet.py

entries = [teacher(detector, width, seed)]
entries += [student(detector, 'alone', seed, lr, setting={'lr': lr}) for lr in (1e-3, 2e-3, 4e-3)]
entries += [
    student(detector, method, seed, 2e-3, width, factor, setting={'weight': factor})
    # 1.0 are 300 times the gradient of the student's own losses (LossGradientHook)
    for factor in (0.03, 0.1, 0.3)
    for method in ('fgd', 'dpk')
]
entries += [
    student(detector, method, seed, 4e-3, width, 0.1, setting={'weight': 0.1, 'lr': 4e-3})
    for method in ('fgd', 'dpk')
]
entries += [
    student(detector, 'fgd', seed, 4e-3, width, 0.3, setting={'weight': 0.3, 'lr': 4e-3}),
]
# Encoders and decoder, which are new and have 600 iterations: twice as wide, half as deep, a larger learning rate.
entries += [
    student(
        detector,
        'dpk',
        seed,
        4e-3,
        width,
        0.1,
        setting={'weight': 0.1, 'lr': 4e-3, **{f'module {key}': v for key, v in modules.items()}},
        modules=modules,
    )
    for modules in (dict(lr=3e-3), dict(width=128, depth=1, lr=3e-3), dict(width=128))
]
