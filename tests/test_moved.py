"""Imports of modules that have moved."""

import importlib
import re
import sys

import pytest

import dpk_mm  # noqa: F401
from dpk_mm._moved import MOVED, MovedModuleFinder, install


@pytest.mark.parametrize('old', MOVED)
def test_the_old_name_ends_in_the_new_one(old):
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module(old)
    assert caught.value.name == old
    new = re.findall(r'dpk_mm[\w.]*\w', str(caught.value).removeprefix(old))
    assert new
    for name in new:
        importlib.import_module(name)  # it is there


def test_other_names_are_not_touched():
    finder = MovedModuleFinder()
    assert finder.find_spec('dpk_mm.errors') is None
    with pytest.raises(ModuleNotFoundError, match='No module named .dpk_mm.nothing_here'):
        importlib.import_module('dpk_mm.nothing_here')


def test_it_is_asked_once_however_often_installed():
    install()
    install()
    assert sum(isinstance(finder, MovedModuleFinder) for finder in sys.meta_path) == 1
