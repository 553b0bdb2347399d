import pytest
import torch
from mmengine.hooks import EMAHook
from torch import nn

import dpk_mm  # noqa: F401
from dpk_mm.checkpoint.weights import (
    ema_copies,
    harmless_extras,
    load_exactly,
    select_weights,
)
from dpk_mm.errors import UsageError


class Net(nn.Module):
    def __init__(self, value: float = 0.0, mean: tuple[float, ...] = (1.0, 2.0, 3.0)) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        self.data_preprocessor = nn.Module()
        self.data_preprocessor.register_buffer('mean', torch.tensor(mean), persistent=False)
        self.register_buffer('grid', torch.arange(3), persistent=False)
        for parameter in self.parameters():
            nn.init.constant_(parameter, value)


def values(state) -> set[float]:
    return {
        float(v)
        for n, value in state.items()
        if n.endswith('0.weight')
        for v in value.detach().flatten()
    }


class Runner:
    """What EMAHook looks at."""

    _resume, iter = False, 0

    def __init__(self, model: nn.Module) -> None:
        self.model = model


def file_of_mmengine() -> dict:
    """As its EMAHook writes it: the weights are 4, their average 2."""
    runner = Runner(Net(0.0))
    hook = EMAHook(momentum=0.5)
    hook.before_run(runner)
    hook.ema_model.steps += 1
    for parameter in runner.model.parameters():
        nn.init.constant_(parameter, 4.0)
    hook.after_train_iter(runner, 0)
    checkpoint = dict(state_dict=runner.model.state_dict())
    hook.before_save_checkpoint(runner, checkpoint)
    return checkpoint


def file_of_mmdet2() -> dict:
    """Its hook exchanges the two before the file is written, so that the plain names have the average."""
    state = Net(2.0).state_dict()
    raw = {'ema_' + n.replace('.', '_'): v for n, v in Net(4.0).named_parameters()}
    return dict(state_dict={**state, **raw})


def file_of_timm() -> dict:
    return dict(model=Net(4.0).state_dict(), model_ema=Net(2.0).state_dict())


@pytest.mark.parametrize('write', [file_of_mmengine, file_of_mmdet2, file_of_timm])
def test_averaged_and_raw_weights_are_told_apart(write):
    expected = list(Net().state_dict())
    for averaged, value in ((True, 2.0), (False, 4.0)):
        state, note = select_weights(write(), averaged)
        assert values(state) == {value}
        assert list(state) == expected
        assert ('averaged (EMA)' if averaged else 'raw') in note


@pytest.mark.parametrize(
    'wrap', [lambda s: s, lambda s: dict(state_dict=s), lambda s: dict(model=s)]
)
def test_one_set_of_weights(wrap):
    net = Net(3.0)
    state, note = select_weights(wrap(net.state_dict()))
    assert note is None and list(state) == list(net.state_dict())
    assert state._metadata == net.state_dict()._metadata
    with pytest.raises(UsageError, match='one set of weights only'):
        select_weights(wrap(net.state_dict()), averaged=False)


def test_names_of_wrappers_are_taken_off():
    averaged = torch.optim.swa_utils.AveragedModel(Net(3.0))
    state, _ = select_weights(averaged.state_dict())
    assert list(state) == list(Net().state_dict())
    assert state._metadata == Net().state_dict()._metadata


def test_a_copy_is_one_only_beside_its_weight():
    assert ema_copies(['a.b', 'ema_a_b', 'ema_a_c']) == {'ema_a_b': 'a.b'}


def test_harmless_extras():
    state = dict.fromkeys(
        ['backbone.0.weight', 'ema_backbone_0_weight', 'ema_other', 'data_preprocessor.std']
        + ['stages.attn_mask', 'grid', 'steps', 'neck.weight', 'neck.num_batches_tracked']
    )
    without_model = harmless_extras(state)
    assert set(state) - without_model == {'backbone.0.weight', 'ema_other', 'grid', 'neck.weight'}
    assert harmless_extras(state, Net()) - without_model == {'grid'}


def test_extras_excuse_no_missing_weight():
    state = dict(Net().state_dict(), **{'data_preprocessor.mean': torch.tensor([1.0, 2.0, 3.0])})
    state |= {'ema_backbone_0_weight': torch.ones(2, 2), 'grid': torch.arange(3)}
    misfits = load_exactly(Net(), state)
    assert not (misfits.missing or misfits.unexpected or misfits.shapes or misfits.errors)

    del state['backbone.0.weight']
    state['neck.weight'] = torch.ones(1)
    misfits = load_exactly(Net(), state)
    assert misfits.missing == ['backbone.0.weight']
    # without the weight, its copy is an unknown entry like any other
    assert misfits.unexpected == ['ema_backbone_0_weight', 'neck.weight']


def test_nothing_is_loaded_where_a_shape_differs():
    net, state = Net(1.0), Net(2.0).state_dict()
    state['backbone.0.bias'] = torch.ones(7)
    assert load_exactly(net, state).shapes == {'backbone.0.bias': ((7,), (2,))}
    assert values(net.state_dict()) == {1.0}


@pytest.mark.parametrize('mean, warned', [([1.0, 2.0, 3.0], False), ([1.0, 2.0, 4.0], True)])
def test_another_normalisation_is_said(logged, mean, warned):
    state = dict(Net().state_dict(), **{'data_preprocessor.mean': torch.tensor(mean).view(3, 1, 1)})
    load_exactly(Net(), state)
    assert len(logged) == warned
    if warned:
        assert 'data_preprocessor.mean = [1.0, 2.0, 4.0]' in logged[0]
        assert 'has [1.0, 2.0, 3.0]' in logged[0]
