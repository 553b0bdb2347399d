import pytest
from mmdet.models import RetinaNet
from mmengine.optim import OptimWrapper

from dpk_mm.checkpoint.type_names import type_name, type_scopes


class Own(RetinaNet):
    pass


@pytest.mark.parametrize(
    ('kind', 'name', 'scopes'),
    [
        ('FCOS', 'FCOS', []),
        ('mmdet.FCOS', 'FCOS', ['mmdet']),
        ('mmdet.models.detectors.FCOS', 'FCOS', ['mmdet']),
        (OptimWrapper, 'OptimWrapper', ['mmengine', 'builtins']),
    ],
)
def test_names_and_classes(kind, name, scopes):
    assert (type_name(kind), type_scopes(kind)) == (name, scopes)


def test_a_class_of_ones_own_is_also_of_its_bases():
    first, second, *_ = type_scopes(Own)
    assert (first, second) == (__name__.partition('.')[0], 'mmdet')
