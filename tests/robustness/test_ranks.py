"""Two and four processes (gloo, CPU) against one.

Every case runs in each world in processes of its own, with DistributedDataParallel and
``find_unused_parameters=False``, and with a time limit on every collective: a hang is a failure, not a wait.

- Gradients: ranks share one batch of 8 images; averaged over ranks they equal those of one process with all of it. The
  tolerance is 2e-5 of the largest gradient of each parameter's kind (float32 sums in another order). What makes the
  two comparable: normalisation in eval mode, masks that follow the teacher's activation, a ratio that is given, and
  for detectors the distillation losses alone (mmdet divides its own by counts of this rank).
- Images of another size on every rank: the reference goes through the ranks' batches one after another.
- One rank has no box at all, another many; the last batch is of another length on each rank.
- The ratio is the same number on every rank, and the one that follows from the average of all ranks' HSIC values.

Not survived, by intent: ``gather=True`` with features of different sizes, which is a sentence on every rank.
"""

from __future__ import annotations

import copy
import datetime
import functools
import math
import traceback
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.helpers.forked import run_ranks

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
WORLDS = (2, 4)
IMAGES = 8
SECONDS = 120  # no collective takes longer, even where many processes share a core
TOLERANCE = 2e-5

# ---------------------------------------------------------------- models

TRANSFORM = dict(
    embed_dims=16,
    encoder_depth=1,
    decoder_depth=1,
    num_heads=2,
    position_embedding='sinusoidal',
    # follows the teacher: the same tokens however the batch is cut
    mask=dict(type='scores', score='teacher_activation', select='top'),
)


def classifier_config():
    def network(width):
        return dict(
            _scope_='mmpretrain',
            type='ImageClassifier',
            backbone=dict(
                type='ResNet',
                depth=18,
                base_channels=width,
                stem_channels=width,
                out_indices=(2, 3),
                init_cfg=None,
            ),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=5, in_channels=8 * width),
            data_preprocessor=dict(num_classes=5, mean=[0.0] * 3, std=[255.0] * 3, to_rgb=True),
        )

    transforms = dict(
        second_last=dict(
            index=0, student_channels=16, teacher_channels=32, patch_size=2, **TRANSFORM
        ),
        last=dict(index=1, student_channels=32, teacher_channels=64, **TRANSFORM),
    )
    recorder = dict(backbone=dict(type='ModuleOutputs', source='backbone'))
    return dict(
        _scope_='mmrazor',
        type='DPKDistill',
        architecture=network(4),
        teacher=network(8),
        distiller=dict(
            type='DPKDistiller',
            student_recorders=recorder,
            teacher_recorders=recorder,
            distill_losses=dict(loss_dpk=dict(type='DPKLoss', transforms=transforms)),
            loss_forward_mappings=dict(
                loss_dpk=dict(
                    student_feats=dict(recorder='backbone', from_student=True),
                    teacher_feats=dict(recorder='backbone', from_student=False),
                )
            ),
        ),
    )


@functools.cache
def detector_config(kind):
    from mmengine.config import Config

    cfg = Config.fromfile(ROOT / 'configs' / 'mini' / f'{kind}_dpk.py').model
    cfg.teacher_ckpt = None
    cfg.teacher.backbone.base_channels = 8
    cfg.teacher.neck.in_channels = cfg.architecture.neck.in_channels
    for transform in cfg.distiller.distill_losses.loss_dpk.transforms.values():
        transform.update(**TRANSFORM, decoder_embed_dims=16)
    return cfg


def build(kind, ratio):
    """The model that every process starts from; ``ratio`` is a number or a policy."""
    import dpk_mm  # noqa: F401

    # isort: split
    from mmengine.logging import MMLogger
    from mmengine.registry import init_default_scope
    from mmrazor.registry import MODELS

    from dpk_mm.models.losses import DPKLoss
    from dpk_mm.modules import FixedMaskRatio

    MMLogger.get_instance('test_ranks', log_level='ERROR')
    init_default_scope('mmrazor')
    torch.manual_seed(0)
    cfg = classifier_config() if kind == 'classifier' else detector_config(kind)
    model = MODELS.build(copy.deepcopy(cfg))
    model.init_weights()
    for module in model.modules():
        if isinstance(module, DPKLoss):
            module.mask_ratio = ratio if callable(ratio) else FixedMaskRatio(ratio)
    model.train()
    for module in model.student.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    for name, parameter in model.named_parameters():
        if (
            'context' in name and 'w_v2' in name
        ):  # zero at the start, which would hide the rest of the block
            nn.init.normal_(parameter, std=0.1)
    return model


class DistillOnly(nn.Module):
    """The distillation losses; the student's own keep their place in the graph with a gradient of zero."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs, samples):
        losses = self.model(inputs, samples, mode='loss')
        own, distilled = 0.0, 0.0
        for name, value in losses.items():
            if 'loss' not in name:
                continue
            total = sum(v.sum() for v in value) if isinstance(value, (list, tuple)) else value.sum()
            if name.startswith('distill'):
                distilled = distilled + total
            else:
                own = own + total
        return distilled + 0 * own


class AllLosses(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs, samples):
        return self.model.parse_losses(self.model(inputs, samples, mode='loss'))[0]


# ---------------------------------------------------------------- data

# boxes of image i; with two ranks the second has none, with four the third and the fourth
BOX_COUNTS = (3, 1, 7, 60, 0, 0, 0, 0)


def images(first, last, size=(64, 64), counts=BOX_COUNTS, seed=1):
    """Images [last - first, 3, H, W] and their boxes, the same whoever asks."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    inputs, samples = [], []
    for i in range(first, last):
        g = torch.Generator().manual_seed(100 * seed + i)
        inputs.append(torch.randn(3, *size, generator=g))
        corner = torch.rand(counts[i], 2, generator=g) * torch.tensor([size[1] - 20, size[0] - 20])
        extent = 4 + torch.rand(counts[i], 2, generator=g) * 15
        sample = DetDataSample(
            metainfo=dict(
                img_shape=size,
                ori_shape=size,
                batch_input_shape=size,
                pad_shape=size,
                scale_factor=(1, 1),
            )
        )
        sample.gt_instances = InstanceData(
            bboxes=torch.cat([corner, corner + extent], 1),  # as the preprocessor gives them
            labels=torch.randint(0, 5, (counts[i],), generator=g),
        )
        samples.append(sample)
    return torch.stack(inputs), samples


def labelled(first, last):
    from mmpretrain.structures import DataSample

    inputs, _ = images(first, last)
    return inputs, [DataSample().set_gt_label(i % 5) for i in range(first, last)]


def batch_of(kind, first, last, **kwargs):
    return labelled(first, last) if kind == 'classifier' else images(first, last, **kwargs)


def gradients(model):
    """By name, the wrappers' prefixes off."""
    return {
        name.replace('module.', '').removeprefix('model.'): p.grad.clone()
        for name, p in model.named_parameters()
        if p.grad is not None
    }


# ---------------------------------------------------------------- what a rank does


def wrap(model):
    return nn.parallel.DistributedDataParallel(model, find_unused_parameters=False)


def shard(rank, world):
    share = IMAGES // world
    return rank * share, (rank + 1) * share


def equal_gradients(rank, world, kind, ratio):
    """Twice the same step: the second would stop if a parameter had been left without gradient in the first."""
    loss = AllLosses if kind == 'classifier' else DistillOnly
    model = wrap(loss(build(kind, ratio)))
    for _ in range(2):
        model.zero_grad()
        value = model(*batch_of(kind, *shard(rank, world)))
        value.backward()
    return dict(loss=value.item(), gradients=gradients(model) if rank == 0 else None)


# a wide image, a small one, an ordinary one, a high one
SIZES = ((64, 128), (32, 64), (64, 64), (96, 32))


def sized_gradients(rank, world, kind, ratio):
    model = wrap(DistillOnly(build(kind, ratio)))
    value = model(*images(*shard(rank, world), size=SIZES[rank]))
    value.backward()
    return dict(loss=value.item(), gradients=gradients(model) if rank == 0 else None)


def training(rank, world, kind):
    """Five whole steps as the runner does them: every size on every rank in turn, one rank without boxes, CKA."""
    from mmengine.model import MMDistributedDataParallel
    from mmengine.optim import build_optim_wrapper

    from dpk_mm.modules import CKAMaskRatio

    policy = CKAMaskRatio(samples='positions')
    plain = build(kind, policy)
    model = MMDistributedDataParallel(plain, find_unused_parameters=False, broadcast_buffers=False)
    optimizer = build_optim_wrapper(
        model,
        dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1e-3), clip_grad=dict(max_norm=1)),
    )
    ratios, losses = [], []
    torch.manual_seed(rank)
    for step in range(5):
        # the last batch is of another length on every rank
        count = 2 if step < 4 else 1 + rank % 2
        size = SIZES[(rank + step) % len(SIZES)]
        boxes = [0, 5, 0, 40] if (rank + step) % 2 else [0, 0, 0, 0]
        inputs, samples = images(0, count, size=size, counts=boxes[-count:], seed=10 * step + rank)
        with optimizer.optim_context(model):
            found = model(inputs, samples, mode='loss')
        total, _ = plain.parse_losses(found)
        optimizer.update_params(total)
        ratios.append(dict(policy.ratios))
        losses.append(total.item())
    weights = torch.cat([p.detach().flatten() for p in plain.parameters()])
    return dict(ratios=ratios, losses=losses, weights=weights.double().sum().item())


def features(rank, count, side=3):
    g = torch.Generator().manual_seed(rank)
    student = torch.randn(count, 6, side, side, generator=g)
    return student, student[:, :4] + torch.randn(count, 4, side, side, generator=g)


# images on rank 0, 1, 2, 3
COUNTS = {
    'equal': (5, 5, 5, 5),
    'uneven': (5, 4, 6, 7),
    'one too few': (5, 3, 5, 5),
    'all but one too few': (5, 1, 2, 3),
}


def uneven_ratio(rank, world, samples, gather, counts, first_step):
    """``first_step``: this very batch is the first one, and no ratio is there to fall back to."""
    from dpk_mm.modules import CKAMaskRatio

    policy = CKAMaskRatio(samples=samples, gather=gather, min_ratio=0.0, max_ratio=1.0)
    if not first_step:
        policy(dict(P4=features(10 + rank, 5)))
    return policy(dict(P4=features(rank, COUNTS[counts][rank])))['P4']


def too_few_everywhere(rank, world):
    """Every rank raises: none waits for another."""
    from dpk_mm.modules import CKAMaskRatio

    try:
        CKAMaskRatio()(dict(P4=features(rank, 1 + rank % 3)))
    except ValueError as error:
        return str(error)
    return None


def one_rank_not_finite(rank, world, policy_name):
    """A NaN on the last rank alone: all keep the ratio before."""
    from dpk_mm.modules import CKAMaskRatio, CosineMaskRatio

    policy = dict(
        images=lambda: CKAMaskRatio(),
        positions=lambda: CKAMaskRatio(samples='positions'),
        gather=lambda: CKAMaskRatio(gather=True),
        cosine=lambda: CosineMaskRatio(),
    )[policy_name]()
    student, teacher = features(rank, 5)
    student = student[:, :4]
    before = policy(dict(P4=(student, teacher)))['P4']
    broken = student.clone()
    if rank == world - 1:
        broken[0, 0, 0, 0] = math.nan
    during = policy(dict(P4=(broken, teacher)))['P4']
    return before, during, policy(dict(P4=(student, teacher)))['P4']


def gather_of_two_sizes(rank, world):
    from dpk_mm.modules import CKAMaskRatio

    try:
        CKAMaskRatio(gather=True)(dict(P4=features(rank, 5, side=3 + rank)))
    except ValueError as error:
        return str(error)
    return None


def one_rank_loses(rank, world, mode):
    """The loss of the last rank becomes NaN in the second step."""
    from mmengine.model import MMDistributedDataParallel
    from mmengine.optim import build_optim_wrapper

    plain = build('classifier', 0.5)
    plain._guard.mode = mode
    model = MMDistributedDataParallel(plain, find_unused_parameters=False, broadcast_buffers=False)
    optimizer = build_optim_wrapper(
        model, dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=1e-2, momentum=0.9))
    )
    weights = []
    for step in range(3):
        inputs, samples = labelled(*shard(rank, world))
        if step == 1 and rank == world - 1:
            inputs[0, 0, 0, 0] = math.nan
        try:
            found = model(inputs, samples, mode='loss')
            optimizer.update_params(plain.parse_losses(found)[0])
        except ValueError as error:
            return str(error)
        weights.append(
            torch.cat([p.detach().flatten() for p in plain.parameters()]).double().sum().item()
        )
    return weights


DETECTORS = ('faster_rcnn', 'retinanet')
CASES = {
    **{
        f'gradients {kind} {ratio}': (equal_gradients, dict(kind=kind, ratio=ratio))
        for kind in ('classifier', *DETECTORS)
        for ratio in (0.0, 0.5, 1.0)
    },
    **{
        f'sizes {kind} {ratio}': (sized_gradients, dict(kind=kind, ratio=ratio))
        for kind in DETECTORS
        for ratio in (0.0, 0.5, 1.0)
    },
    **{f'training {kind}': (training, dict(kind=kind)) for kind in DETECTORS},
    **{
        f'ratio {name} {counts} {"first" if first else "later"}': (
            uneven_ratio,
            dict(samples=samples, gather=gather, counts=counts, first_step=first),
        )
        for name, samples, gather in (
            ('images', 'images', False),
            ('gathered', 'images', True),
            ('positions', 'positions', False),
        )
        for counts in COUNTS
        for first in (True, False)
    },
    'too few': (too_few_everywhere, {}),
    **{
        f'NaN {name}': (one_rank_not_finite, dict(policy_name=name))
        for name in ('images', 'positions', 'gather', 'cosine')
    },
    'two sizes': (gather_of_two_sizes, {}),
    **{f'one rank {mode}': (one_rank_loses, dict(mode=mode)) for mode in ('stop', 'skip')},
}


def rank_main(rank, world, folder):
    """All cases in turn, each in a process group of its own, so that one that fails leaves the next alone."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    build('classifier', 0.5)  # imports take longest; no rank waits for them within a case
    results = {}
    for number, (name, (case, kwargs)) in enumerate(CASES.items()):
        dist.init_process_group(
            'gloo',
            init_method=f'file://{folder}/{world}_{number}',
            rank=rank,
            world_size=world,
            timeout=datetime.timedelta(seconds=SECONDS),
        )
        try:
            results[name] = case(rank, world, **kwargs)
        except Exception:
            results[name] = RuntimeError(traceback.format_exc())
        dist.destroy_process_group()
    torch.save(
        {k: str(v) if isinstance(v, Exception) else v for k, v in results.items()},
        f'{folder}/result_{world}_{rank}.pth',
    )


# ---------------------------------------------------------------- the tests


@pytest.fixture(scope='module', params=WORLDS, ids=[f'{w} ranks' for w in WORLDS])
def ranks(request, tmp_path_factory):
    """Name of a case -> what each rank returned."""
    world = request.param
    folder = tmp_path_factory.mktemp(f'world{world}')
    run_ranks(rank_main, world, folder, folder=folder, world=world, seconds=1800)
    found = [torch.load(folder / f'result_{world}_{rank}.pth') for rank in range(world)]
    return {name: [f[name] for f in found] for name in CASES}


def results_of(ranks, name):
    for rank, result in enumerate(ranks[name]):
        failed = isinstance(result, str) and result.startswith('Traceback')
        assert not failed, f'rank {rank}: {result}'
    return ranks[name]


_SINGLE: dict = {}


def one_process(kind, ratio, shards, sizes=None):
    """Gradients of one process: the mean over ``shards`` of the batch, gone through in turn."""
    key = (kind, ratio, tuple(shards), sizes)
    if key not in _SINGLE:
        model = (AllLosses if kind == 'classifier' else DistillOnly)(build(kind, ratio))
        losses = []
        for i, (first, last) in enumerate(shards):
            extra = dict(size=sizes[i]) if sizes else {}
            value = model(*batch_of(kind, first, last, **extra))
            (value / len(shards)).backward()
            losses.append(value.item())
        _SINGLE[key] = sum(losses) / len(losses), gradients(model)
    return _SINGLE[key]


def compare(found, expected):
    assert found.keys() == expected.keys()
    largest = max(g.abs().max() for g in expected.values())
    assert largest > 1e-4  # there is something to compare
    for name, gradient in expected.items():
        kind = max(gradient.abs().max().item(), 1e-3 * largest.item())
        error = (found[name] - gradient).abs().max().item()
        assert error <= TOLERANCE * kind, f'{name}: {error} of {kind}'


@pytest.mark.parametrize('ratio', [0.0, 0.5, 1.0])
@pytest.mark.parametrize('kind', ['classifier', *DETECTORS])
def test_gradients_are_those_of_one_process_with_the_whole_batch(ranks, kind, ratio):
    results = results_of(ranks, f'gradients {kind} {ratio}')
    loss, expected = one_process(kind, ratio, [(0, IMAGES)])
    assert sum(r['loss'] for r in results) / len(results) == pytest.approx(loss, rel=1e-5)
    compare(results[0]['gradients'], expected)


@pytest.mark.parametrize('ratio', [0.0, 0.5, 1.0])
@pytest.mark.parametrize('kind', DETECTORS)
def test_gradients_with_another_image_size_on_every_rank(ranks, kind, ratio):
    results = results_of(ranks, f'sizes {kind} {ratio}')
    world = len(results)
    shards = [shard(rank, world) for rank in range(world)]
    loss, expected = one_process(kind, ratio, shards, SIZES[:world])
    assert sum(r['loss'] for r in results) / world == pytest.approx(loss, rel=1e-5)
    compare(results[0]['gradients'], expected)


@pytest.mark.parametrize('kind', DETECTORS)
def test_training_with_everything_uneven(ranks, kind):
    results = results_of(ranks, f'training {kind}')
    for result in results:
        assert result['ratios'] == results[0]['ratios']
        assert result['weights'] == results[0]['weights']
        assert all(math.isfinite(v) for v in result['losses'])
    assert len({r['losses'][0] for r in results}) == len(results)  # each rank has its own images
    steps = results[0]['ratios']
    assert len(steps) == 5 and all(0.1 <= v <= 0.95 for step in steps for v in step.values())
    assert len({step['P4'] for step in steps}) > 1


def expected_ratio(world, name, counts):
    """From the HSIC values of each rank's own features, in one process."""
    from dpk_mm.functional import cka_from_sums, hsic_sums, positions_as_samples

    pairs = [features(rank, COUNTS[counts][rank]) for rank in range(world)]
    if name == 'gathered':
        pairs = [tuple(torch.cat(side) for side in zip(*pairs, strict=True))]
    elif name == 'positions':
        pairs = [tuple(positions_as_samples(side) for side in pair) for pair in pairs]
    sums = [hsic_sums(s, t) for s, t in pairs if len(s) >= 4]
    return min(max(1 - cka_from_sums(torch.stack(sums).mean(0)).item(), 0.0), 1.0)


@pytest.mark.parametrize('when', ['first', 'later'])
@pytest.mark.parametrize('counts', COUNTS)
@pytest.mark.parametrize('name', ['images', 'gathered', 'positions'])
def test_the_ratio_is_the_same_on_every_rank(ranks, name, counts, when):
    results = results_of(ranks, f'ratio {name} {counts} {when}')
    assert len(set(results)) == 1
    assert results[0] == pytest.approx(expected_ratio(len(results), name, counts), rel=1e-6)


def test_too_few_images_on_every_rank_are_a_sentence_on_every_rank(ranks):
    for sentence in results_of(ranks, 'too few'):
        assert sentence.startswith("CKA needs at least 4 samples, but stage 'P4' has")


@pytest.mark.parametrize('name', ['images', 'positions', 'gather', 'cosine'])
def test_a_nan_on_one_rank_keeps_the_ratio_on_all(ranks, name):
    results = results_of(ranks, f'NaN {name}')
    assert len(set(results)) == 1
    before, during, after = results[0]
    assert before == during == after


def test_gathering_two_sizes_is_a_sentence_on_every_rank(ranks):
    for sentence in results_of(ranks, 'two sizes'):
        assert 'gather=True needs features of one size on all ranks' in sentence


def test_a_loss_that_is_not_finite_on_one_rank_stops_all(ranks):
    results = results_of(ranks, 'one rank stop')
    assert 'another rank' in results[0]
    assert 'nan' in results[-1]


def test_a_step_skipped_on_one_rank_is_skipped_on_all(ranks):
    results = results_of(ranks, 'one rank skip')
    for weights in results:
        assert weights == results[0]
        assert weights[0] == weights[1] != weights[2]
