import importlib
import inspect
import sys
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec

import pytest
import torch

from dpk_mm import compat
from dpk_mm.compat import mmcv_ops, ops

compat.apply()

pytestmark = pytest.mark.skipif(
    'mmcv_ops' not in compat.apply(), reason='mmcv has compiled ops here'
)


def test_the_extension_is_an_ordinary_module():
    extension = importlib.import_module('mmcv._ext')
    assert sys.modules['mmcv._ext'] is extension
    assert extension.__spec__.name == 'mmcv._ext'
    assert extension.__spec__.loader is not None
    assert not hasattr(extension, '__path__') and not hasattr(extension, '__file__')
    assert inspect.ismodule(extension)
    assert extension.nms is ops.nms


def test_mmengine_sees_the_ops():
    from mmengine.utils.dl_utils import mmcv_full_available

    assert mmcv_full_available()


def test_the_environment_report_works():
    from mmcv.utils.env import collect_env

    assert collect_env()['MMCV Compiler'] == 'n/a (ops of torchvision)'


def test_a_missing_op_says_so_when_it_is_called():
    from mmcv.ops import box_iou_rotated

    boxes = torch.tensor([[0.0, 0, 2, 2, 0.3]])
    with pytest.raises(NotImplementedError) as caught:
        box_iou_rotated(boxes, boxes)
    message = str(caught.value)
    assert message.startswith("the mmcv op 'box_iou_rotated' needs a compiled mmcv")
    assert 'mim install mmcv==' in message and torch.__version__ in message
    assert '\n' not in message


def test_the_stand_ins_take_the_arguments_that_mmcv_passes():
    """Each call of a stand-in in mmcv's source names arguments that the stand-in has."""
    import ast
    from pathlib import Path

    import mmcv.ops

    called = set()
    for path in Path(mmcv.ops.__file__).parent.glob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            function = getattr(node, 'func', None)
            if getattr(getattr(function, 'value', None), 'id', '') != 'ext_module':
                continue
            if function.attr not in ops.__all__ or any(k.arg is None for k in node.keywords):
                continue
            signature = inspect.signature(getattr(ops, function.attr))
            signature.bind(*node.args, **{k.arg: None for k in node.keywords})
            called.add(function.attr)
    assert called == set(ops.__all__)


@pytest.mark.parametrize('compiled', [True, False])
def test_a_compiled_extension_is_left_alone(monkeypatch, tmp_path, compiled):
    package = ModuleSpec('mmcv', None, is_package=True)
    package.submodule_search_locations = [str(tmp_path)]
    if compiled:
        (tmp_path / f'_ext{EXTENSION_SUFFIXES[0]}').touch()
    monkeypatch.setattr('importlib.util.find_spec', lambda name: package)
    monkeypatch.delitem(sys.modules, 'mmcv._ext')
    assert mmcv_ops.needed() is not compiled


def test_a_module_that_is_there_already_is_left_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmcv._ext', object())
    assert not mmcv_ops.needed()
