# Forms of DPK on 20 classes of CIFAR-100, on validation images, with seeds that the decision does not have: exploratory
from tools.experiments.classifiers import form, forms, teacher

title = '20 classes of CIFAR-100: forms of DPK, on validation images'
metric = 'accuracy/top1'
data = dict(kind='image_folders', every_class=5, val=50, subsets=dict(teacher=250, student=50))
references = ('dpk',)
parts = ('val',)
width = 24

entries = [teacher('cifar', width)]
for seed in (100, 101):
    entries += [form('cifar', name, 50.0, seed, width) for name in forms('cifar')]
    entries.append(form('cifar', 'head', 50.0, seed, width, config='fitnets'))
