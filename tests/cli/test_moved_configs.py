"""Base configs of an earlier release."""

from pathlib import Path

import pytest

from dpk_mm.cli.moved_configs import MOVED
from dpk_mm.cli.options import load_config
from dpk_mm.errors import UsageError

BASES = Path(__file__).parents[2] / 'configs' / '_base_'


@pytest.mark.parametrize('name', MOVED)
def test_an_old_base_names_the_new_one(tmp_path, name):
    assert not (BASES / name).exists()
    config = tmp_path / 'own.py'
    config.write_text(f"_base_ = '{BASES / name}'\n")
    with pytest.raises(UsageError) as caught:
        load_config(str(config))
    new = str(caught.value).partition(' is now ')[2].split(' ')[0].rstrip('.;(),')
    assert (BASES.parent / new).exists()


def test_another_missing_base_is_named(tmp_path):
    config = tmp_path / 'own.py'
    config.write_text("_base_ = './nothing.py'\n")
    with pytest.raises(UsageError, match='own.py: .*nothing.py'):
        load_config(str(config))
