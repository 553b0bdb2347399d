import pytest

from dpk_mm.models import methods
from tools.gpu_suites.grid import GRID, losses_of

PAIR = 'cifar100/resnet56_resnet20'


@pytest.mark.parametrize('name', [name for name, method in GRID.items() if method])
def test_methods_of_the_grid_are_losses_of_the_pair(name):
    losses = losses_of(name, 100, 10)(PAIR)
    assert losses and all('type' in loss for loss in losses.values())


def test_functions_of_the_package_are_called_with_what_they_ask_for():
    assert losses_of('kd', 100, 10)(PAIR) == methods.kd()
    assert losses_of('crd', 100, 10)(PAIR) == methods.crd(PAIR, 100)
    assert losses_of('tofd', 100, 10)(PAIR) == methods.tofd(PAIR, 10)
    assert losses_of('student alone', 100, 10) is None


@pytest.mark.parametrize('name', ['nothing', 'DKD_BETA'])
def test_other_names_are_refused(name):
    with pytest.raises(
        ValueError, match=f"no method '{name}'; choose from student alone, KD, .*crd"
    ):
        losses_of(name, 100, 10)
