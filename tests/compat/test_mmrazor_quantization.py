import importlib
import sys
from importlib.machinery import ModuleSpec

import pytest

from dpk_mm import compat
from dpk_mm.compat import mmrazor_quantization

compat.apply()

PACKAGE = 'mmrazor.structures.quantization.backend_config'

RELEASED = "if digit_version(torch.__version__) >= digit_version('1.13.0'):"
REPAIRED = RELEASED[:-1] + " and digit_version(torch.__version__) <= digit_version('1.13.1'):"


@pytest.mark.parametrize('source, expected', [(RELEASED, True), (REPAIRED, False), (None, False)])
def test_it_is_needed_where_the_source_builds_the_tables(monkeypatch, tmp_path, source, expected):
    folder = tmp_path / 'structures/quantization/backend_config'
    folder.mkdir(parents=True)
    if source:
        (folder / 'mapping.py').write_text(source)
    package = ModuleSpec('mmrazor', None, origin=str(tmp_path / '__init__.py'))
    monkeypatch.setattr('importlib.util.find_spec', lambda name: package)
    monkeypatch.delitem(sys.modules, PACKAGE, raising=False)
    assert mmrazor_quantization.needed() is expected


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.delitem(sys.modules, PACKAGE, raising=False)
    mmrazor_quantization.apply()
    module = sys.modules[PACKAGE]
    yield module
    monkeypatch.undo()


def test_the_stand_in_has_the_names_that_mmrazor_imports(stub):
    assert len(stub.__all__) == 9
    assert 'get_openvino_backend_config_dict' in stub.__all__
    assert len(stub.BackendConfigs) == 0


def test_quantization_says_why_it_does_not_work(stub):
    with pytest.raises(NotImplementedError, match='does not work on torch .*: use torch 1.13'):
        stub.BackendConfigs['tensorrt']
    with pytest.raises(NotImplementedError, match='does not work on torch'):
        stub.get_native_backend_config()


def test_distillation_can_be_imported():
    models = importlib.import_module('mmrazor.models')
    assert models.SingleTeacherDistill.__name__ == 'SingleTeacherDistill'
