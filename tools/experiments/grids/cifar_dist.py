# Whether DPK, or FitNets, adds to DIST, the best loss on logits in the table of all methods. Asked after the decision
# of `cifar` was seen, with the settings found there; five seeds, held-out images. See configs/experiments/PLAN.md.
from tools.experiments.classifiers import form, on_dist, student, teacher

title = '20 classes of CIFAR-100: DPK beside DIST'
metric = 'accuracy/top1'
data = dict(kind='image_folders', every_class=5, val=50, subsets=dict(teacher=250, student=50))
references = ('baseline', 'kd', 'dist', 'dist_fitnets_share')
width = 24

entries = [teacher('cifar', width)]
for seed in (0, 1, 2, 3, 4):
    kd = student('cifar', 'kd', 0.8, seed, width, named=False)
    baseline = student('cifar', 'baseline', 0.1, seed, width, named=False)
    entries += [baseline, kd, on_dist(kd)]
    entries += [
        on_dist(student('cifar', method, 1.0, seed, width, named=False))
        for method in ('fitnets_share', 'dpk_share', 'no_prior_share')
    ]
    entries.append(on_dist(form('cifar', 'orthogonal', 50.0, seed, width)))
    control = on_dist(form('cifar', 'orthogonal', 50.0, seed, width, prior=False))
    name = 'dist_no_prior_orthogonal'
    entries.append({**control, 'method': name, 'name': f'{name}-w{width}-s{seed}'})
