"""Modules beside a script are found under their bare name when it runs: they must hide no other module."""

import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / 'tools'
FOLDERS = ('.', 'analysis', 'experiments', 'quickstart')


@pytest.mark.parametrize('folder', FOLDERS)
def test_no_file_beside_a_script_hides_another_module(folder):
    names = {path.stem for path in (TOOLS / folder).glob('*.py')}
    # tools/test.py is called as in all OpenMMLab projects; the standard library's `test` is for itself
    hidden = names & {*sys.stdlib_module_names, *packages_distributions()} - {'test'}
    assert not hidden - {'__init__', '__main__'}


def test_the_package_of_the_tools_is_the_repositorys():
    import tools

    assert Path(tools.__file__) == TOOLS / '__init__.py'
