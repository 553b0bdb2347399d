"""Imports of modules that have moved."""

import importlib
import sys

import pytest

import dpk_mm
from dpk_mm._moved import LEFT, MOVED, MovedModuleFinder, install


@pytest.mark.parametrize('old', MOVED)
def test_the_old_name_works_and_says_the_new_one(old, monkeypatch):
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(FutureWarning, match=f'{old} is now {" and ".join(MOVED[old])};'):
        module = importlib.import_module(old)
    for place in MOVED[old]:
        new = importlib.import_module(place)
        public = [name for name in vars(new) if not name.startswith('_')]
        assert public
        assert all(name in vars(module) for name in public)
        own = [n for n in public if getattr(getattr(new, n), '__module__', None) == place]
        assert all(getattr(module, name) is getattr(new, name) for name in own)


@pytest.mark.parametrize('old', LEFT)
def test_a_package_that_left_names_the_new_place(old):
    for name in (old, f'{old}.anything'):
        with pytest.raises(ModuleNotFoundError, match=f'{old} is now {LEFT[old]}'):
            importlib.import_module(name)
    importlib.import_module(LEFT[old])  # it is there


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
