import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from dpk_mm import compat
from dpk_mm.compat import inplace

compat.apply()

from mmrazor.models.algorithms.base import BaseAlgorithm  # noqa: E402  (needs the patches)
from mmrazor.models.task_modules import RecorderManager  # noqa: E402


class ConvModule(nn.Module):
    """As mmcv's: it has an ``inplace`` of its own, and an activation below."""

    def __init__(self):
        super().__init__()
        self.inplace = True
        self.conv = nn.Conv2d(2, 3, 1)
        self.activate = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.activate(self.conv(x))


class Network(BaseModel):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU6(inplace=True))
        self.block = nn.ModuleDict({'a': ConvModule(), 'b': nn.Dropout(0.0, inplace=True)})

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.block['b'](self.block['a'](self.stem(inputs)))


def test_every_module_is_reached():
    algorithm = BaseAlgorithm(Network())
    flagged = [m for m in algorithm.modules() if hasattr(m, 'inplace')]
    assert len(flagged) == 4
    assert not any(m.inplace for m in flagged)


def test_it_can_be_kept():
    algorithm = BaseAlgorithm(Network(), module_inplace=True)
    assert all(m.inplace for m in algorithm.modules() if hasattr(m, 'inplace'))


@pytest.mark.parametrize('source', ['architecture.stem.0', 'architecture.block.a.conv'])
def test_a_recorded_feature_is_not_overwritten(source):
    torch.manual_seed(1)
    algorithm = BaseAlgorithm(Network())
    manager = RecorderManager({'feature': {'type': 'mmrazor.ModuleOutputs', 'source': source}})
    manager.initialize(algorithm)
    x = torch.randn(2, 1, 8, 8)
    with manager:
        algorithm(x)
    recorded = manager.get_recorder('feature').get_record_data()
    inside = algorithm.architecture.stem(x) if 'conv' in source else x
    layer = algorithm.get_submodule(source)
    assert torch.equal(recorded, layer(inside))
    assert (recorded < 0).any()


def test_the_probe_tells_a_working_method_from_a_broken_one():
    def nothing(self, architecture, varstr):
        pass

    def shallow(self, architecture, varstr):
        for child in architecture.children():
            child.inplace = False

    def working(self, architecture, varstr):
        inplace.turn_inplace_off(architecture)

    assert not inplace._Probe(nothing).works()
    assert not inplace._Probe(shallow).works()
    assert inplace._Probe(working).works()
