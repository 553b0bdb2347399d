import importlib

import pytest

import dpk_mm
from dpk_mm._moved import MOVED


@pytest.mark.parametrize('name', MOVED)
def test_an_old_place_names_the_new_one(name):
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module(name)
    assert str(caught.value) == f'{name} is now {MOVED[name]}; import it from there.'


def test_a_module_of_a_package_that_left_names_the_new_place():
    with pytest.raises(ModuleNotFoundError, match='dpk_mm.experiments is now tools.experiments'):
        importlib.import_module('dpk_mm.experiments.grid')


def test_folders_of_old_caches_are_not_taken_for_the_package(tmp_path, monkeypatch):
    # what git leaves behind when it removes the files of a package
    (tmp_path / 'quickstart' / '__pycache__').mkdir(parents=True)
    monkeypatch.setattr(dpk_mm, '__path__', [*dpk_mm.__path__, str(tmp_path)])
    with pytest.raises(ModuleNotFoundError, match='is now tools.quickstart'):
        importlib.import_module('dpk_mm.quickstart')
