"""Several optimizers, one loss: the weights after some steps against those of hand-written loops."""

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim import AmpOptimWrapper, build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import nn

import dpk_mm  # noqa: F401
from dpk_mm.engine.hooks.measuring import loss_scale
from dpk_mm.engine.optimizers.joint_optim_wrapper import JointOptimWrapper
from dpk_mm.errors import UsageError
from tests.helpers.forked import run_ranks

ROOT = Path(__file__).parents[3]
SGD = dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=0.01)
ADAMW = dict(type='AdamW', lr=0.01, betas=(0.9, 0.95), weight_decay=0.1)


class Toy(BaseModel):
    """What the wrapper has to know of an algorithm: two children and a loss that needs both."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.architecture = nn.Sequential(nn.Linear(6, 5), nn.Tanh())
        self.distiller = nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 1))

    def forward(self, inputs, data_samples=None, mode='loss'):
        out = self.distiller(self.architecture(inputs))
        return dict(loss_a=(out - 1).square().mean(), loss_b=out.abs().mean())


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmpretrain')


def batches(count=6):
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(4, 6, generator=generator) for _ in range(count)]


def wrapper(model, **cfg):
    cfg.setdefault('architecture', dict(optimizer=dict(SGD)))
    cfg.setdefault('distiller', dict(optimizer=dict(SGD)))
    return build_optim_wrapper(
        model, ConfigDict(constructor='mmrazor.DPKOptimWrapperConstructor', **cfg)
    )


def train(model, optim, data):
    return [model.train_step(dict(inputs=x), optim)['loss'].item() for x in data]


def same(a, b, **tolerance):
    for (name, p), q in zip(a.named_parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(p, q, msg=name, **(tolerance or dict(rtol=0, atol=0)))


@pytest.mark.parametrize('counts', [1, 2])
def test_two_equal_optimizers_are_one(counts):
    model, single = Toy(), Toy()
    cfg = ConfigDict(type='OptimWrapper', optimizer=SGD, accumulative_counts=counts)
    one = build_optim_wrapper(single, cfg)
    losses = train(model, wrapper(model, accumulative_counts=counts), batches())
    assert losses == train(single, one, batches())
    same(model, single)


def test_an_accumulation_cut_short_is_scaled_by_its_length():
    """Of 5 batches with 2 to accumulate, the last is alone, which only a told maximum reveals."""
    model, single = Toy(), Toy()
    joint = wrapper(model, accumulative_counts=2)
    one = build_optim_wrapper(single, ConfigDict(optimizer=SGD, accumulative_counts=2))
    for optim, net in ((joint, model), (one, single)):
        before = copy.deepcopy(net.state_dict())
        optim.initialize_count_status(net, 0, 5)
        train(net, optim, batches(5))
        assert not torch.equal(before['distiller.0.weight'], net.state_dict()['distiller.0.weight'])
    assert joint.inner_count == one.inner_count == 5
    same(model, single)


def manual(model, data, counts=1, clip=None):
    """The training loop that the wrapper stands for."""
    sgd = torch.optim.SGD(
        model.architecture.parameters(), **{k: v for k, v in SGD.items() if k != 'type'}
    )
    flat = [p for p in model.distiller.parameters() if p.ndim == 1]
    rest = [p for p in model.distiller.parameters() if p.ndim > 1]
    kwargs = {k: v for k, v in ADAMW.items() if k != 'type'}
    adamw = torch.optim.AdamW([dict(params=rest), dict(params=flat, weight_decay=0.0)], **kwargs)
    for i, x in enumerate(data):
        (sum(model(x).values()) / counts).backward()
        if (i + 1) % counts == 0:
            for part in (model.architecture, model.distiller) if clip else ():
                torch.nn.utils.clip_grad_norm_(part.parameters(), clip)
            for optimizer in (sgd, adamw):
                optimizer.step()
                optimizer.zero_grad()


MIXED = dict(
    architecture=dict(optimizer=SGD),
    distiller=dict(optimizer=ADAMW, paramwise_cfg=dict(flat_decay_mult=0.0)),
)


@pytest.mark.parametrize(('counts', 'clip'), [(1, None), (2, None), (1, 0.05), (3, 0.05)])
def test_sgd_and_adamw_step_as_by_hand(counts, clip):
    model, reference = Toy(), Toy()
    # None is mmengine's own word for no clipping
    clip_grad = dict(type='norm', max_norm=clip) if clip else None
    cfg = dict(copy.deepcopy(MIXED), accumulative_counts=counts, clip_grad=clip_grad)
    optim = wrapper(model, **cfg)
    train(model, optim, batches())
    manual(reference, batches(), counts, clip)
    same(model, reference, rtol=1e-6, atol=1e-7)
    untouched = Toy()
    assert not torch.equal(untouched.architecture[0].weight, model.architecture[0].weight)


def test_clipped_norms_are_logged_by_part():
    hub = MessageHub.get_current_instance()
    model = Toy()
    optim = wrapper(model, clip_grad=dict(max_norm=1e-3))
    x = batches(1)[0]
    sum(model(x).values()).backward()
    expected = {
        name: torch.stack([p.grad.norm() for p in getattr(model, name).parameters()]).norm().item()
        for name in ('architecture', 'distiller')
    }
    model.zero_grad()
    train(model, optim, [x])
    for name, norm in expected.items():
        logged = hub.get_scalar(f'train/{name}.grad_norm').current()
        assert logged == pytest.approx(norm, rel=1e-5)


def test_parameter_groups_and_learning_rates():
    optim = wrapper(Toy(), **copy.deepcopy(MIXED))
    groups = optim['distiller'].optimizer.param_groups
    assert {g['weight_decay'] for g in groups if g['params'][0].ndim == 1} == {0.0}
    assert {g['weight_decay'] for g in groups if g['params'][0].ndim == 2} == {0.1}
    lrs = optim.get_lr()
    assert lrs['architecture.lr'] == [0.05]
    assert set(lrs['distiller.lr']) == {0.01}


def test_state_goes_through_a_checkpoint(tmp_path):
    first, data = Toy(), batches(8)
    optim = wrapper(first, **copy.deepcopy(MIXED))
    train(first, optim, data[:4])
    torch.save(dict(model=first.state_dict(), optimizer=optim.state_dict()), tmp_path / 'c.pth')
    train(first, optim, data[4:])
    second = Toy()
    resumed = wrapper(second, **copy.deepcopy(MIXED))
    state = torch.load(tmp_path / 'c.pth', weights_only=True)
    second.load_state_dict(state['model'])
    resumed.load_state_dict(state['optimizer'])
    train(second, resumed, data[4:])
    same(first, second)


def test_another_optimizers_state_is_refused():
    model = Toy()
    one = build_optim_wrapper(model, ConfigDict(optimizer=SGD))
    with pytest.raises(UsageError, match='made with one optimizer.*architecture, distiller'):
        wrapper(model).load_state_dict(one.state_dict())
    with pytest.raises(UsageError, match='made with architecture'):
        state = wrapper(model).state_dict()
        del state['distiller']
        wrapper(model).load_state_dict(state)


@pytest.fixture
def amp_anywhere(monkeypatch):
    # mmengine refuses its AmpOptimWrapper on a machine without a GPU
    monkeypatch.setattr(
        'mmengine.optim.optimizer.amp_optimizer_wrapper.is_cuda_available', lambda: True
    )


def test_bfloat16_autocast_is_close_to_float32(amp_anywhere):
    model, reference = Toy(), Toy()
    cfg = copy.deepcopy(MIXED)
    amp = dict(type='AmpOptimWrapper', dtype='bfloat16', loss_scale=dict(enabled=False))
    seen = []
    optim = wrapper(model, **cfg, **amp)
    model.distiller[0].register_forward_hook(lambda m, i, out: seen.append(out.dtype))
    train(model, optim, batches())
    train(reference, wrapper(reference, **copy.deepcopy(MIXED)), batches())
    assert set(seen) == {torch.bfloat16}
    for p, q in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.isfinite(p).all()
        torch.testing.assert_close(p, q, rtol=0.1, atol=0.03)


def scaled(model, **cfg):
    """With torch's own scaler, its scale halved or doubled now and then; mmengine knows only CUDA's."""
    amp = dict(type='AmpOptimWrapper', loss_scale=dict(enabled=False))
    optim = wrapper(model, **copy.deepcopy(MIXED), **amp, **cfg)
    assert len({id(part.loss_scaler) for part in optim.values()}) == 1
    scaler = torch.amp.GradScaler('cpu', init_scale=1024.0, growth_interval=2)
    for part in optim.values():
        assert isinstance(part, AmpOptimWrapper)
        part.loss_scaler = scaler
    return optim, scaler


@pytest.mark.parametrize('clip', [None, 0.05])
def test_one_scaler_for_all_parts(amp_anywhere, clip):
    """Every part's gradients are unscaled by the factor of the one backward pass."""
    model, reference = Toy(), Toy()
    optim, scaler = scaled(model, **(dict(clip_grad=dict(max_norm=clip)) if clip else {}))
    data = batches()
    for x in data:
        optim.update_params(sum(model(x).values()))
    manual(reference, data, clip=clip)
    # what measures gradients finds it where a single wrapper has it
    assert loss_scale(SimpleNamespace(optim_wrapper=optim)) == scaler.get_scale()
    assert loss_scale(SimpleNamespace(optim_wrapper=wrapper(Toy(), **copy.deepcopy(MIXED)))) == 1
    assert scaler.get_scale() == 1024 * 2 ** (len(data) // 2)  # one update a step, not one a part
    same(model, reference, rtol=1e-6, atol=1e-7)


def test_a_part_that_is_left_out_needs_no_gradients_for_the_scaler(amp_anywhere):
    """GradScaler fails for an optimizer none of whose parameters has a gradient."""
    model = Toy()
    optim, _ = scaled(model, clip_grad=dict(max_norm=1.0))
    before = copy.deepcopy(model)
    assert optim.leave_out(model.distiller.parameters()) == []
    optim.update_params(model.architecture(batches(1)[0]).square().sum())
    same(model.distiller, before.distiller)
    assert not torch.equal(model.architecture[0].weight, before.architecture[0].weight)
    assert list(optim.get_lr()) == ['architecture.lr']
    assert list(optim.get_momentum()) == ['architecture.momentum']


def test_a_part_that_trains_others_as_well_is_not_left_out():
    model = Toy()
    optim = wrapper(model)
    few = [model.distiller[0].weight, *model.architecture.parameters()]
    assert [id(p) for p in optim.leave_out(few)] == [id(model.distiller[0].weight)]
    assert list(optim.get_lr()) == ['distiller.lr']


def test_infinite_gradients_are_left_out_and_the_scale_is_halved_once(amp_anywhere):
    model = Toy()
    optim, scaler = scaled(model)
    before = copy.deepcopy(model)
    optim.update_params(sum(model(batches(1)[0]).values()) * 1e38)
    assert scaler.get_scale() == 512
    same(model, before)


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (dict(optimizer=SGD), 'optim_wrapper.optimizer:.*_delete_=True'),
        (
            dict(teacher=dict(optimizer=SGD)),
            'optim_wrapper.teacher.*is unknown.*architecture, dist',
        ),
        (dict(distiller=SGD), 'optim_wrapper.distiller is .*a part'),
        (dict(data_preprocessor=dict(optimizer=SGD)), 'has no trainable parameters; take it out'),
        (
            dict(architecture=dict(optimizer=SGD, accumulative_counts=2)),
            'architecture.accumulative_counts is 2 and optim_wrapper.distiller.accumulative_counts is None',
        ),
        (
            dict(distiller=dict(type='AmpOptimWrapper', optimizer=SGD)),
            "distiller.type is 'AmpOptimWrapper'.*set it once, as optim_wrapper.type",
        ),
        (dict(type='ApexOptimWrapper'), 'ApexOptimWrapper'),
    ],
)
def test_what_cannot_be_built(cfg, message, monkeypatch):
    from mmengine.optim import ApexOptimWrapper, OptimWrapper

    monkeypatch.setattr(ApexOptimWrapper, '__init__', OptimWrapper.__init__)
    with pytest.raises(UsageError, match=message):
        wrapper(Toy(), **cfg)


def test_paramwise_settings_belong_to_a_part():
    with pytest.raises(UsageError, match='optim_wrapper.distiller.paramwise_cfg'):
        wrapper(Toy(), paramwise_cfg=dict(norm_decay_mult=0.0))


def test_no_parameter_is_forgotten_or_owned_twice():
    model = Toy()
    cfg = ConfigDict(
        constructor='mmrazor.DPKOptimWrapperConstructor', architecture=dict(optimizer=SGD)
    )
    with pytest.raises(UsageError, match='distiller.0.weight would not be trained.*add'):
        build_optim_wrapper(model, cfg)
    model.distiller.requires_grad_(False)
    assert list(build_optim_wrapper(model, cfg).keys()) == ['architecture']
    model = Toy()
    model.distiller[0].bias = model.architecture[0].bias
    with pytest.raises(UsageError, match='architecture and distiller share parameters'):
        wrapper(model)


def test_wrappers_that_differ_are_refused():
    model = Toy()
    optim = wrapper(model)
    optim['distiller']._accumulative_counts = 3
    with pytest.raises(UsageError, match='accumulative_counts is 1 and.*is 3'):
        JointOptimWrapper(**dict(optim.items()))


COUNTS = (1, 2)


def _one_rank(rank, store):
    dist.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=2)
    init_default_scope('mmpretrain')
    for counts in COUNTS:
        model = Toy()
        ddp = MMDistributedDataParallel(model)
        optim = wrapper(ddp, **copy.deepcopy(MIXED), accumulative_counts=counts)
        for x in batches():
            ddp.train_step(dict(inputs=x[2 * rank : 2 * rank + 2]), optim)
        torch.save(model.state_dict(), f'{store}.{rank}.{counts}.pth')
    dist.destroy_process_group()


def test_two_processes_step_like_one_with_the_whole_batch(tmp_path):
    store = tmp_path / 'store'
    run_ranks(_one_rank, store, folder=tmp_path)
    for counts in COUNTS:
        model = Toy()
        train(model, wrapper(model, **copy.deepcopy(MIXED), accumulative_counts=counts), batches())
        for rank in range(2):
            other = Toy()
            other.load_state_dict(torch.load(f'{store}.{rank}.{counts}.pth', weights_only=True))
            same(model, other, rtol=1e-5, atol=1e-6)
