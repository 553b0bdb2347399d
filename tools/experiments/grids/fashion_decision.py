# The decision on Fashion-MNIST: five seeds, two teachers, the settings of fashion_settings.py, the
# form of cifar_forms.py. See configs/experiments/PLAN.md.
from tools.experiments.chosen import best_form, chosen_settings
from tools.experiments.classifiers import CANDIDATES, decision

title = 'Fashion-MNIST: the decision'
metric = 'accuracy/top1'
data = dict(kind='fashion_mnist')
references = ('baseline', 'kd', 'fitnets')

entries = decision(
    'fashion',
    chosen_settings('fashion_settings'),
    seeds=(0, 1, 2, 3, 4),
    widths=(24, 16),
    form_name=best_form('cifar_forms', CANDIDATES),
)
