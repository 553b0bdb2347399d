# Settings on 20 classes of CIFAR-100, three of every method, chosen on training images that nothing is trained on.
# Seeds that the decision does not have. See configs/experiments/PLAN.md.
from tools.experiments.classifiers import settings

title = '20 classes of CIFAR-100: settings, chosen on validation images'
metric = 'accuracy/top1'
data = dict(kind='image_folders', every_class=5, val=50, subsets=dict(teacher=250, student=50))
references = ('baseline', 'kd', 'fitnets')
parts = ('val',)

entries = settings('cifar', width=24, seeds=(100, 101))
