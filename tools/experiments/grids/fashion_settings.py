# Settings on Fashion-MNIST, three of every method, chosen on training images that nothing is trained on. Seeds that
# the decision does not have. See configs/experiments/PLAN.md.
from tools.experiments.classifiers import settings

title = 'Fashion-MNIST: settings, chosen on validation images'
metric = 'accuracy/top1'
data = dict(kind='fashion_mnist')
references = ('baseline', 'kd', 'fitnets')
parts = ('val',)

entries = settings('fashion', width=24, seeds=(100, 101))
