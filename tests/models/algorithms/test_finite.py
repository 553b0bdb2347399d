"""A training with bad batches: it stops with a sentence, or equals the training without them."""

import copy
import gc
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmrazor.registry import MODELS
from torch import nn
from torch.optim.optimizer import _global_optimizer_pre_hooks

import dpk_mm  # noqa: F401
from dpk_mm.errors import UsageError
from dpk_mm.models.algorithms import finite
from dpk_mm.models.algorithms.failed_forward import not_finite_values
from dpk_mm.models.algorithms.finite import NonFiniteLossError
from dpk_mm.modules import CKAMaskRatio
from tests.helpers.forked import run_ranks

ROOT = Path(__file__).parents[3]
SGD = dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=0.01)
ADAMW = dict(type='AdamW', lr=0.01, weight_decay=0.1)
ONE = dict(optimizer=SGD)
TWO = dict(
    constructor='mmrazor.DPKOptimWrapperConstructor',
    architecture=dict(optimizer=SGD),
    distiller=dict(optimizer=ADAMW),
)


class Backbone(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width, momentum=0.5)
        )
        self.second = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, 2, 1), nn.BatchNorm2d(2 * width, momentum=0.5)
        )

    def forward(self, x):
        first = self.first(x)
        return first, self.second(first)


class Network(BaseModel):
    def __init__(self, width, unused=False):
        super().__init__()
        self.backbone = Backbone(width)
        self.head = nn.Linear(2 * width, 3)
        if unused:
            self.unused = nn.Linear(2, 2)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        logits = self.head(self.backbone(inputs)[-1].mean((2, 3)))
        if mode == 'loss':
            return dict(
                loss=nn.functional.cross_entropy(logits, logits.new_zeros(len(logits)).long())
            )
        return logits


def build(non_finite='stop', unused=False, loss_weight=1.0):
    torch.manual_seed(0)
    stages = {
        name: dict(
            index=index,
            student_channels=4 * (1 + index),
            teacher_channels=6 * (1 + index),
            embed_dims=8,
            encoder_depth=1,
            decoder_depth=1,
            num_heads=2,
            position_grid=2,
        )
        for index, name in enumerate(('P4', 'P5'))
    }
    record = dict(
        logits=dict(type='ModuleOutputs', source='head'),
        backbone=dict(type='ModuleOutputs', source='backbone'),
    )
    model = MODELS.build(
        dict(
            type='DPKDistill',
            architecture=Network(4, unused),
            teacher=Network(6),
            non_finite=non_finite,
            distiller=dict(
                type='DPKDistiller',
                student_recorders=record,
                teacher_recorders=record,
                distill_losses=dict(
                    loss_kd=dict(type='KLDivergence'),
                    loss_dpk=dict(type='DPKLoss', transforms=stages),
                ),
                loss_forward_mappings=dict(
                    loss_kd=dict(
                        preds_S=dict(recorder='logits', from_student=True),
                        preds_T=dict(recorder='logits', from_student=False),
                    ),
                    loss_dpk=dict(
                        student_feats=dict(recorder='backbone', from_student=True),
                        teacher_feats=dict(recorder='backbone', from_student=False),
                    ),
                ),
            ),
        )
    )
    loss = model.distiller.distill_losses.loss_dpk
    loss.mask_ratio = CKAMaskRatio()  # as its hook does
    loss.loss_weight = loss_weight
    return model.train()


@pytest.fixture(autouse=True)
def hub():
    init_default_scope('mmrazor')
    hub = MessageHub.get_current_instance()
    for scalars in (hub._log_scalars, hub._runtime_info):
        scalars.clear()
    return hub


def batch(index, bad=False, n=4):
    x = torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(index))
    if bad:
        x[n - 1, 0, 0, 0] = float('nan')
    return x


def optimizer(model, **cfg):
    return build_optim_wrapper(model, ConfigDict(copy.deepcopy(cfg)))


def train(model, optim, names):
    """'3' is batch 3, '3!' is batch 3 with a NaN; each batch has its own random masks."""
    for name in names:
        torch.manual_seed(100 + int(name.strip('!')))
        logged = model.train_step(
            dict(inputs=batch(int(name.strip('!')), name.endswith('!'))), optim
        )
        assert all(torch.isfinite(v).all() for v in logged.values())
    return model


def same(a, b):
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.isfinite(x.float()).all(), name
        assert torch.equal(x, y), name


@pytest.mark.parametrize('defer', [False, True])
def test_stop_names_iteration_losses_and_features(hub, defer):
    model = build()
    model._guard.defer = defer  # CUDA's way
    optim = optimizer(model, **ONE)
    train(model, optim, '12')
    before = copy.deepcopy(model.state_dict())
    hub.update_info('iter', 11)
    hub.update_info('epoch', 2)
    with pytest.raises(NonFiniteLossError) as caught:
        train(model, optim, ['3!'])
    text = str(caught.value)
    assert text.startswith(r'iteration 12 (epoch 3): student.loss is nan, distill.loss_kd is nan, ')
    assert (
        'distill.loss_dpk.P4 is nan, distill.loss_dpk.P5 is nan; not finite: input (NaN), ' in text
    )
    order = ['input (NaN)', 'teacher feature backbone[0] (P4) (NaN)', 'backbone[1] (P5) (NaN)']
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)
    assert "model.non_finite='skip'" in text
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]), name  # no step was done
    assert 'train/skipped_steps' not in hub.log_scalars


def test_putting_the_read_off_changes_no_training():
    plain, late = (build() for _ in range(2))
    late._guard.defer = True
    train(plain, optimizer(plain, **TWO), '12345')
    train(late, optimizer(late, **TWO), '12345')
    same(plain, late)
    assert late._guard._pending is None


def test_a_loss_that_was_put_off_is_read_before_the_next_one(hub):
    """A gradient scaler leaves out a step with infinite gradients, so no optimizer asks."""
    model = build()
    model._guard.defer = True
    before = copy.deepcopy(model.state_dict())
    hub.update_info('iter', 6)
    for index, bad in enumerate([True, False]):
        torch.manual_seed(index)
        losses = model.loss(batch(index, bad))
        if bad:
            model.parse_losses(losses)[0].backward()
    hub.update_info('iter', 7)
    with pytest.raises(NonFiniteLossError, match=r'^iteration 7: student\.loss is nan'):
        model.parse_losses(losses)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]), name


def test_a_guard_leaves_no_hook_behind():
    gc.collect()  # those of other tests
    count = len(_global_optimizer_pre_hooks)
    model = build()
    model._guard.defer = True
    train(model, optimizer(model, **ONE), '12')
    assert len(_global_optimizer_pre_hooks) == count + 1
    del model
    gc.collect()
    assert len(_global_optimizer_pre_hooks) == count


def spoil(value):
    def hook(module, inputs, output):
        output = output.clone()
        output.view(-1)[0] = value
        return output

    return hook


@pytest.mark.parametrize('side', ['student', 'teacher'])
def test_the_first_feature_that_is_not_finite_is_named(side):
    model = build()
    getattr(model, side).backbone.second.register_forward_hook(spoil(float('inf')))
    with pytest.raises(NonFiniteLossError) as caught:
        train(model, optimizer(model, **ONE), '1')
    text = str(caught.value)
    assert f'not finite: {side} feature backbone[1] (P5) (infinite), {side} feature logits' in text
    # a student's cell may be among the masked ones
    assert 'distill.loss_dpk.P5' in text or side == 'student'
    assert 'distill.loss_dpk.P4' not in text


def test_a_loss_that_overflows_by_itself():
    model = build(loss_weight=float('inf'))
    with pytest.raises(NonFiniteLossError, match='P4 is inf, .*all recorded features are finite'):
        train(model, optimizer(model, **ONE), '1')
    model = build(loss_weight=3e38)
    with pytest.raises(NonFiniteLossError, match='(overflows|is inf).*features are finite'):
        train(model, optimizer(model, **ONE), '1')


def test_a_damaged_teacher_is_named():
    model = build()
    model.teacher.backbone.first[1].running_var[0] = float('nan')
    with pytest.raises(NonFiniteLossError, match='backbone.first.1.running_var of the teacher'):
        train(model, optimizer(model, **ONE), '1')


@pytest.mark.parametrize('mode', ['stop', 'skip'])
def test_weights_that_are_not_finite_end_the_training_in_both_modes(mode):
    """What a gradient that is not finite leaves behind."""
    model = build(mode)
    optim = optimizer(model, **ONE)
    train(model, optim, '1')
    with torch.no_grad():
        model.student.backbone.second[0].weight[0, 0, 0, 0] = float('nan')
    with pytest.raises(NonFiniteLossError, match='architecture.backbone.second.0.weight.*gradient'):
        train(model, optim, '2')


@pytest.mark.parametrize('cfg', [ONE, TWO], ids=['one', 'two'])
@pytest.mark.parametrize('clip', [None, dict(max_norm=0.1)], ids=['', 'clip'])
def test_a_skipped_step_leaves_no_trace(cfg, clip, hub):
    """Weights, running statistics, momentum and Adam's moments are those of a run without the batch."""
    if clip and cfg is ONE:
        cfg = dict(cfg, clip_grad=clip)
    clean, skipping = build('skip'), build('skip')
    optims = [optimizer(model, **cfg) for model in (clean, skipping)]
    train(clean, optims[0], '123')
    train(skipping, optims[1], ['9!', '1', '2', '8!', '7!', '3', '9!'])
    same(clean, skipping)
    for a, b in zip(
        torch.utils._pytree.tree_leaves(optims[0].state_dict()),
        torch.utils._pytree.tree_leaves(optims[1].state_dict()),
        strict=True,
    ):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    assert hub.get_scalar('train/skipped_steps').current() == 4


def test_with_all_batches_good_both_modes_train_alike(hub):
    stop, skip = build('stop'), build('skip')
    for model in (stop, skip):
        train(model, optimizer(model, **ONE), '123')
    same(stop, skip)
    assert 'train/skipped_steps' not in hub.log_scalars


@pytest.mark.parametrize(
    ('batches', 'expected'),
    [
        (['1', '2', '3', '9!'], ['1', '2', '3']),  # the others of an accumulation count
        (['1', '2', '9!', '3'], ['1', '2', '3']),
        (['1', '2', '9!', '8!', '3', '4'], ['1', '2', '3', '4']),  # nothing left of it: no step
    ],
)
def test_accumulation(batches, expected):
    clean, skipping = build('skip'), build('skip')
    cfg = dict(optimizer=SGD, accumulative_counts=2)
    optims = [optimizer(model, **cfg) for model in (clean, skipping)]
    for optim, model, count in ((optims[0], clean, len(expected)), (optims[1], skipping, 99)):
        # a lone gradient is halved in a full accumulation, so is it in the reference
        optim.initialize_count_status(model, 0, count if count % 2 == 0 else 99)
    train(clean, optims[0], expected)
    if len(expected) % 2:
        optims[0].step()
    train(skipping, optims[1], batches)
    same(clean, skipping)


def test_a_gradient_scaler_sees_gradients(monkeypatch):
    """torch's scaler fails on a step without any gradient, so they go after it has looked."""
    monkeypatch.setattr(
        'mmengine.optim.optimizer.amp_optimizer_wrapper.is_cuda_available', lambda: True
    )
    clean, skipping = build('skip'), build('skip')
    for model, names in ((clean, '12'), (skipping, ['9!', '1', '8!', '2'])):
        optim = optimizer(model, **ONE, type='AmpOptimWrapper', loss_scale=dict(enabled=False))
        optim.loss_scaler = torch.amp.GradScaler('cpu', init_scale=1024.0)
        train(model, optim, names)
        assert optim.loss_scaler.get_scale() == 1024
    same(clean, skipping)


@pytest.mark.parametrize('clip', [None, dict(max_norm=0.1)], ids=['', 'clip'])
def test_a_gradient_scaler_of_two_optimizers_sees_the_gradients_of_both(monkeypatch, clip):
    """The step of the first one drops the gradients of both."""
    monkeypatch.setattr(
        'mmengine.optim.optimizer.amp_optimizer_wrapper.is_cuda_available', lambda: True
    )
    clean, skipping = build('skip'), build('skip')
    for model, names in ((clean, '12'), (skipping, ['9!', '1', '8!', '2'])):
        cfg = dict(TWO, type='AmpOptimWrapper', loss_scale=dict(enabled=False), clip_grad=clip)
        optim = optimizer(model, **cfg)
        scaler = torch.amp.GradScaler('cpu', init_scale=1024.0)
        for part in optim.values():
            part.loss_scaler = scaler
        train(model, optim, names)
        assert scaler.get_scale() == 1024
    same(clean, skipping)


def test_too_many_in_a_row_end_the_training(monkeypatch):
    monkeypatch.setattr(finite, 'MAX_IN_A_ROW', 3)
    model = build('skip')
    optim = optimizer(model, **ONE)
    train(model, optim, ['1!', '2!', '3!', '4', '5!', '6!', '7!'])
    with pytest.raises(NonFiniteLossError, match='3 steps in a row were skipped before'):
        train(model, optim, ['8!'])


def test_the_count_goes_on_after_a_resume(hub):
    model = build('skip')
    train(model, optimizer(model, **ONE), ['1!', '2!', '3'])
    saved = copy.deepcopy(hub.state_dict())
    hub._log_scalars.clear()
    hub.load_state_dict(saved)
    model = build('skip')
    train(model, optimizer(model, **ONE), ['4!'])
    assert hub.get_scalar('train/skipped_steps').current() == 3


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="non_finite must be one of .*'ignore'"):
        build('ignore')


def test_a_copy_of_the_model_does_not_skip_for_it():
    model = build('skip')
    optim = optimizer(model, **ONE)
    train(model, optim, ['1!'])
    twin = copy.deepcopy(model)
    assert twin._guard.mode == 'skip'
    assert twin._guard._hook is None
    train(model, optim, ['2'])
    assert model._guard._hook is None


def test_nothing_is_held_after_the_step():
    model = build()
    train(model, optimizer(model, **ONE), '1')
    assert model._seen == model.distiller._seen == {}
    assert model._guard._statistics == []


def test_a_zero_reaches_what_a_reentrant_checkpoint_hides():
    hidden, plain, unused = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
    params = [*hidden.parameters(), *plain.parameters(), *unused.parameters()]
    x = plain(torch.ones(1, 2))
    loss = torch.utils.checkpoint.checkpoint(hidden, x, use_reentrant=True).sum()
    zero = finite._zero(loss * float('nan'), params)
    zero.backward()
    assert zero == 0 and all(torch.equal(p.grad, torch.zeros_like(p)) for p in params)
    unused.zero_grad()
    finite._zero(hidden(plain(torch.ones(1, 2))).sum(), params).backward()
    assert all(p.grad is None for p in unused.parameters())


MODES = ('stop', 'skip')


class Assigner(nn.Module):
    """As YOLOX's, which asks torch for a binary cross-entropy of scores that have to be in [0, 1]."""

    def forward(self, logits):
        scores = logits.sigmoid()
        nn.functional.binary_cross_entropy(scores.detach(), torch.zeros_like(scores))
        return logits


def build_with_assigner(mode='stop', side='architecture'):
    model = build(mode)
    network = getattr(model, side)
    network.head = nn.Sequential(network.head, Assigner())
    return model


@pytest.mark.parametrize('side', ['architecture', 'teacher'])
@pytest.mark.parametrize('defer', [False, True])
def test_stop_says_what_failed_and_where_it_began(hub, defer, side):
    model = build_with_assigner(side=side)
    model._guard.defer = defer
    optim = optimizer(model, **ONE)
    train(model, optim, '1')
    before = copy.deepcopy(model.state_dict())
    hub.update_info('iter', 11)
    hub.update_info('epoch', 2)
    with pytest.raises(NonFiniteLossError) as caught:
        train(model, optim, ['3!'])
    text = str(caught.value)
    assert text.startswith(
        'iteration 12 (epoch 3): the forward pass failed (RuntimeError: all elements of input '
        'should be between 0 and 1); not finite: input (NaN), '
    )
    assert "model.non_finite='skip'" in text
    assert isinstance(caught.value.__cause__, RuntimeError)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]), name


@pytest.mark.parametrize('side', ['architecture', 'teacher'])
@pytest.mark.parametrize('cfg', [ONE, TWO], ids=['one', 'two'])
def test_a_skipped_step_is_as_if_the_batch_had_not_been_there(cfg, side, hub):
    clean, skipping = build_with_assigner('skip', side), build_with_assigner('skip', side)
    optims = [optimizer(model, **cfg) for model in (clean, skipping)]
    train(clean, optims[0], '123')
    train(skipping, optims[1], ['9!', '1', '2', '8!', '7!', '3', '9!'])
    same(clean, skipping)
    assert hub.get_scalar('train/skipped_steps').current() == 4
    assert skipping._guard._failure is None
    for manager in (skipping.distiller.student_recorders, skipping.distiller.teacher_recorders):
        assert all(recorder.data_buffer == [] for recorder in manager.recorders.values())


@pytest.mark.parametrize('mode', MODES)
def test_weights_that_make_the_assigner_fail_end_the_training(mode):
    model = build_with_assigner(mode)
    optim = optimizer(model, **ONE)
    with torch.no_grad():
        model.student.backbone.second[0].weight[0, 0, 0, 0] = float('nan')
    with pytest.raises(
        NonFiniteLossError, match='pass failed.*architecture.backbone.second.0.weight.*gradient'
    ):
        train(model, optim, '2')


@pytest.mark.parametrize('mode', MODES)
def test_a_validation_with_such_weights(mode):
    model = build_with_assigner(mode).eval()
    with torch.no_grad():
        model.student.backbone.second[0].weight[0, 0, 0, 0] = float('inf')
        model.student.backbone.second[0].weight[0, 1, 0, 0] = float('-inf')
    with pytest.raises(NonFiniteLossError, match='pass failed.*backbone.second.0.weight is not'):
        model(batch(1), mode='predict')


class Broken(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, logits):
        raise self.error


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('forward', ['loss', 'predict', 'tensor'])
@pytest.mark.parametrize('kind', [RuntimeError, KeyError, ValueError])
def test_a_genuine_error_is_as_it_was(mode, forward, kind):
    model = build(mode)
    error = kind('the config is wrong')
    model.student.head = nn.Sequential(model.student.head, Broken(error))
    with pytest.raises(kind) as caught:
        model(batch(1), mode=forward)
    assert caught.value is error
    assert caught.value.__cause__ is None


@pytest.mark.parametrize('error', [UsageError('x'), torch.OutOfMemoryError('x'), ImportError('x')])
def test_errors_that_no_nan_causes(error):
    model = build('skip')
    model.student.head = nn.Sequential(model.student.head, Broken(error))
    with pytest.raises(type(error)) as caught:
        model(batch(1, bad=True), mode='loss')
    assert caught.value is error


def raised(function, *args):
    try:
        function(*args)
    except RuntimeError as error:
        return error


def test_a_nan_between_finite_features_is_found():
    def head(features):
        scores = [features / 0 * 0, features]
        mask = torch.full((2,), float('-inf'))  # on purpose, and no sign of a fault
        raise RuntimeError(f'{len(scores)} {len(mask)}')

    model = nn.Linear(2, 2)
    found = not_finite_values(model, raised(head, torch.ones(2)), {})
    assert list(found) == ['scores of head()']

    def sound(features):
        mask = torch.full((2,), float('-inf'))
        raise RuntimeError(f'{features} {mask}')

    assert not_finite_values(model, raised(sound, torch.ones(2)), {}) is None


def _steps(rank, model, names, unused=False, **cfg):
    ddp = MMDistributedDataParallel(model, find_unused_parameters=unused, broadcast_buffers=False)
    optim = optimizer(ddp, **cfg)
    for name in names:
        index = int(name.strip('!'))
        torch.manual_seed(100 + index)
        # the bad value is the last image's: rank 1 has it, rank 0 does not
        x = batch(index, name.endswith('!'), n=8)[4 * rank : 4 * rank + 4]
        ddp.train_step(dict(inputs=x), optim)
    return model


def _one_rank(rank, store):
    dist.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=2)
    init_default_scope('mmrazor')
    for cfg in (ONE, TWO):
        for unused in (False, True):
            clean = _steps(rank, build('skip', unused), ['1', '2'], unused, **cfg)
            names = ['9!', '1', '8!', '7!', '2', '6!']
            skipping = _steps(rank, build('skip', unused), names, unused, **cfg)
            same(clean, skipping)
            # an assigner that fails on rank 1, and does not on rank 0
            clean = _steps(rank, build_with_assigner('skip'), ['1', '2'], unused, **cfg)
            same(clean, _steps(rank, build_with_assigner('skip'), names, unused, **cfg))
    # in the second step of an accumulation the first one's gradients still have to be exchanged
    two = dict(optimizer=SGD, accumulative_counts=2)
    model = _steps(rank, build('skip'), ['1', '9!', '2', '3'], **two)
    weights = torch.nn.utils.parameters_to_vector(model.parameters()).detach()
    other = weights.clone()
    dist.broadcast(other, 0)
    assert torch.equal(weights, other)
    for model in (build_with_assigner('stop'), build('stop')):
        with pytest.raises(NonFiniteLossError) as stopped:
            _steps(rank, model, ['1', '9!', '2'], **ONE)
        print(stopped.value)
    dist.destroy_process_group()


def test_all_ranks_do_the_same(tmp_path):
    printed = run_ranks(_one_rank, tmp_path / 'store', folder=tmp_path)
    assert 'the loss of another rank is not finite' in printed[0].splitlines()[-1]
    assert 'not finite on rank 1: input (NaN)' in printed[1].splitlines()[-1]
    assert 'the loss of another rank is not finite' in printed[0].splitlines()[-2]
    assert 'the forward pass failed (RuntimeError: all elem' in printed[1].splitlines()[-2]
