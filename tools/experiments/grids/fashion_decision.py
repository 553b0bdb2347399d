# The decision on Fashion-MNIST: five seeds, two teachers, the settings of fashion_settings.py. See
# configs/experiments/PLAN.md.
from tools.experiments.chosen import chosen_settings
from tools.experiments.classifiers import decision

title = 'Fashion-MNIST: the decision'
metric = 'accuracy/top1'
data = dict(kind='fashion_mnist')
references = ('baseline', 'kd', 'fitnets')

entries = decision(
    'fashion', chosen_settings('fashion_settings'), seeds=(0, 1, 2, 3, 4), widths=(24, 16)
)
