"""Imports of modules that have moved."""

import importlib
import re
import sys

import pytest

import dpk_mm
from dpk_mm._moved import MOVED, MovedModuleFinder, install


@pytest.mark.parametrize('old', MOVED)
def test_the_old_name_ends_in_the_new_one(old):
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module(old)
    assert str(caught.value) == f'{old} is now {MOVED[old]}; import it from there.'
    assert caught.value.name == old
    for new in re.findall(r'(?:dpk_mm|tools)[\w.]*\w', MOVED[old]):
        importlib.import_module(new)  # it is there


def test_a_module_of_a_package_that_left_names_the_new_place():
    with pytest.raises(ModuleNotFoundError, match='dpk_mm.experiments is now tools.experiments'):
        importlib.import_module('dpk_mm.experiments.grid')


def test_folders_of_old_caches_are_not_taken_for_the_package(tmp_path, monkeypatch):
    # what git leaves behind when it removes the files of a package
    (tmp_path / 'quickstart' / '__pycache__').mkdir(parents=True)
    monkeypatch.setattr(dpk_mm, '__path__', [*dpk_mm.__path__, str(tmp_path)])
    with pytest.raises(ModuleNotFoundError, match='is now tools.quickstart'):
        importlib.import_module('dpk_mm.quickstart')


def test_other_names_are_not_touched():
    finder = MovedModuleFinder()
    assert finder.find_spec('dpk_mm.errors') is None
    with pytest.raises(ModuleNotFoundError, match='No module named .dpk_mm.nothing_here'):
        importlib.import_module('dpk_mm.nothing_here')


def test_it_is_asked_once_however_often_installed():
    install()
    install()
    assert sum(isinstance(finder, MovedModuleFinder) for finder in sys.meta_path) == 1
