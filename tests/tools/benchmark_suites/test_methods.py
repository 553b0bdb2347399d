from pathlib import Path

import pytest

from dpk_mm.errors import UsageError
from tools.benchmark_suites.methods import methods

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / 'configs' / 'methods' / 'cifar100'


def test_methods_of_a_pair_are_timed_together_with_their_parameters():
    names = [str(FOLDER / f'{name}.py') for name in ('kd', 'crd', 'reviewkd', 'dkd')]
    rows = methods(names, rounds=1, device='cpu', batch_size=4, image_size=(32, 32), warmup=0)
    assert [row.case for row in rows] == [
        'student step + teacher forward (floor)',
        *('kd', 'crd', 'reviewkd', 'dkd'),
    ]
    # as docs/methods.md has them
    assert [row.note for row in rows[1:]] == [
        '0 parameters',
        '16,640 parameters',
        '114,278 parameters',
        '0 parameters',
    ]
    assert rows[0].ratio is None and all(row.ratio > 0 for row in rows[1:])


def test_configs_of_two_pairs_are_refused():
    names = [str(FOLDER / 'kd.py'), str(ROOT / 'configs/dpk/cifar100/wrn40-2_wrn16-2.py')]
    with pytest.raises(UsageError, match='wrn40-2_wrn16-2 is of another pair than kd'):
        methods(names, rounds=1)


def test_two_configs_with_one_name_are_two_cases(tmp_path):
    own = tmp_path / 'kd.py'
    own.write_text(f"_base_ = '{FOLDER / 'kd.py'}'\n")
    names = [str(FOLDER / 'kd.py'), str(own), f'{FOLDER}/../cifar100/kd.py']
    rows = methods(names, rounds=1, device='cpu', batch_size=4, image_size=(32, 32), warmup=0)
    assert [row.case for row in rows[1:]] == ['cifar100/kd', f'{tmp_path.name}/kd']
