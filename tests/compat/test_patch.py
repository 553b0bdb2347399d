import sys
from dataclasses import FrozenInstanceError

import pytest

from dpk_mm.compat._patch import Patch, is_installed


def test_installed_packages_are_found_without_importing_them(tmp_path, monkeypatch):
    (tmp_path / 'package_that_cannot_be_imported').mkdir()
    (tmp_path / 'package_that_cannot_be_imported' / '__init__.py').write_text('1 / 0')
    assert not is_installed('package_that_cannot_be_imported')
    monkeypatch.syspath_prepend(tmp_path)
    assert is_installed('package_that_cannot_be_imported')
    assert 'package_that_cannot_be_imported' not in sys.modules


def test_a_record_is_not_changed_afterwards():
    patch = Patch('a', 'it fails', ('owner/repository#1',), 'never', lambda: True, lambda: None)
    with pytest.raises(FrozenInstanceError):
        patch.name = 'b'
    assert patch.name == 'a' and patch.needed() is True
