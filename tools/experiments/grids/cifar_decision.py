# The decision on 20 classes of CIFAR-100: five seeds, two teachers, the settings of cifar_settings.py, the
# form of cifar_forms.py. See configs/experiments/PLAN.md.
from tools.experiments.chosen import best_form, chosen_settings
from tools.experiments.classifiers import CANDIDATES, decision

title = '20 classes of CIFAR-100: the decision'
metric = 'accuracy/top1'
data = dict(kind='image_folders', every_class=5, val=50, subsets=dict(teacher=250, student=50))
references = ('baseline', 'kd', 'fitnets')

entries = decision(
    'cifar',
    chosen_settings('cifar_settings'),
    seeds=(0, 1, 2, 3, 4),
    widths=(24, 12),
    form_name=best_form('cifar_forms', CANDIDATES),
)
