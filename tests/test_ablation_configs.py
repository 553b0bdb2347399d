"""Every ablation config differs from the paper's ablation setting in what its name says, and in nothing else."""

from copy import deepcopy
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmrazor.registry import MODELS

import dpk_mm  # noqa: F401
from dpk_mm.functional import (
    activation_scores,
    block_mask,
    foreground_scores,
    gap_scores,
    grid_mask,
    num_masked_tokens,
    random_mask,
    select_by_scores,
    uncertainty_scores,
)
from dpk_mm.modules import FixedMaskRatio, count_parameters
from tests.helpers.meta import parameters_on_meta

pytestmark = pytest.mark.usefixtures('quick_configs')

FOLDER = Path(__file__).parents[1] / 'configs' / 'dpk' / 'ablations'
FAMILIES = ('mask_', 'prior_', 'transform_', 'loss_', 'encode_', 'active_')
NAMES = sorted(path.stem for path in FOLDER.glob('*.py') if path.stem.startswith(FAMILIES))
DETECTION = [name for name in NAMES if 'foreground' in name]
VIT = {name: tuple(map(int, name.split('_')[2:])) for name in NAMES if '_vit_' in name}
MASKS = {
    'random': lambda n, grid: random_mask(n, grid[0] * grid[1], 0.5),
    'block': lambda n, grid: block_mask(n, grid, 0.5),
    'grid': lambda n, grid: grid_mask(n, grid, 0.5),
}
# the two features of the last stage; 9 x 8 tokens
G = torch.Generator().manual_seed(0)
STUDENT, TEACHER = torch.randn(3, 4, 9, 8, generator=G), torch.randn(3, 4, 9, 8, generator=G)
WEIGHT, BIAS = torch.randn(6, 4, generator=G), torch.randn(6, generator=G)


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmpretrain')


@cache
def _read(path):
    return Config.fromfile(path)


def load(name):
    return deepcopy(_read((FOLDER / f'{name}.py').resolve()))


def stages(cfg):
    return cfg.model.distiller.distill_losses.loss_dpk.transforms


def last(name):
    found = stages(load(name))
    assert [stage for stage, cfg in found.items() if cfg is not None] == ['last']
    return found['last']


def small_loss(name):
    """The config's loss with few channels, a ratio of 0.5, and what its transforms are given and give."""
    cfg = load(name).model.distiller.distill_losses.loss_dpk.to_dict()
    tiny = dict(embed_dims=8, decoder_embed_dims=8, num_heads=2, decoder_num_heads=2)
    for stage in filter(None, cfg['transforms'].values()):
        stage.update(student_channels=4, teacher_channels=4)
        stage.update({key: value for key, value in tiny.items() if key in stage})
    if 'criterion' in cfg:
        cfg['criterion'].update(student_channels=4, teacher_channels=4)
    torch.manual_seed(0)
    loss = MODELS.build(dict(cfg, _scope_='mmrazor'))
    loss.mask_ratio = FixedMaskRatio(0.5)
    seen = {}
    for stage, transform in loss.transforms.items():
        transform.register_forward_hook(
            lambda module, args, out, stage=stage: seen.update({stage: (args[3:], out)})
        )
    return loss, seen


def run(name):
    """Loss, mask and hybrid of a config's last stage on `STUDENT` and `TEACHER`."""
    loss, seen = small_loss(name)
    torch.manual_seed(5)
    value = loss((STUDENT, STUDENT), (TEACHER, TEACHER), class_weight=WEIGHT, class_bias=BIAS)
    (mask,), hybrid = seen['last']
    return value.item() / 0.2, mask, hybrid


def test_every_row_is_there():
    assert (
        sorted(
            [f'mask_{name}' for name in MASKS]
            + [f'prior_{name}' for name in ('teacher', 'zeros', 'mask_token', 'none')]
            + [f'transform_{name}' for name in ('conv1x1', 'conv', 'mlp')]
            + [f'transform_vit_{name}' for name in ('1_1', '2_2', '4_4', '6_4', '6_6')]
            + ['loss_full', 'loss_student', 'encode_first']
            + [
                f'active_{score}_{rule}'
                for score in ('activation', 'gap', 'uncertainty', 'foreground')
                for rule in ('sample', 'top', 'opposite')
            ]
        )
        == NAMES
    )


def test_every_config_is_in_the_readme():
    readme = (FOLDER / 'README.md').read_text()
    for name in NAMES:
        assert readme.count(f'| [{name}]({name}.py) |') == 1, name


def test_the_setting_is_the_papers():
    base = load('../../_base_/imagenet_dpk_ablation')
    pair = load('../imagenet/resnet34_resnet18')
    assert base.model.teacher.backbone.depth == 34
    assert base.model.architecture.backbone.depth == 18
    found, released = stages(base), stages(pair)
    assert found.second_last is None
    assert dict(found.last) == dict(released.last, decoder_depth=6)  # A.2: six for a single stage
    for key in pair:
        if key != 'model':
            assert base[key] == pair[key], key


@pytest.mark.parametrize('name', NAMES)
def test_nothing_else_differs(name):
    cfg = load(name)
    if name in DETECTION:
        base = load('../faster_rcnn_r152_r50')
    elif name.startswith('mask_'):
        base = load('ratio_fixed_075')  # Table 6 compares the strategies at a fixed ratio
        fixed = dict(type='mmrazor.FixedMaskRatioHook', ratio=0.75)
        assert base.default_hooks.mask_ratio == fixed
    else:
        base = load('../../_base_/imagenet_dpk_ablation')
    assert stages(cfg).keys() == stages(base).keys()
    for stage in filter(None, [*stages(cfg).values(), *stages(base).values()]):
        stage.clear()
    if 'uncertainty' in name:
        mapping = cfg.model.distiller.pop('loss_forward_mappings').loss_dpk
        for key in ('class_weight', 'class_bias'):
            assert mapping.pop(key) == dict(recorder=key, from_student=False)
            source = f'head.fc.{key.removeprefix("class_")}'
            recorder = dict(teacher=dict(type='Parameter', source=source))
            assert cfg.model.distiller.records.pop(key) == recorder
        assert not mapping
    assert cfg.to_dict() == base.to_dict()


@pytest.mark.parametrize('name', NAMES)
def test_its_distiller_builds(name):
    cfg = load(name)
    with parameters_on_meta():
        distiller = MODELS.build(dict(cfg.model.distiller, _scope_='mmrazor'))
    assert 'loss_dpk' in distiller.distill_losses


@pytest.mark.parametrize('strategy', MASKS)
def test_mask(strategy):
    _, mask, _ = run(f'mask_{strategy}')
    torch.manual_seed(5)
    assert torch.equal(mask.teacher, MASKS[strategy](3, (9, 8)).teacher)


@pytest.mark.parametrize('prior', ['teacher', 'zeros', 'mask_token', 'none'])
def test_prior(prior):
    loss, _ = small_loss(f'prior_{prior}')
    transform = loss.transforms['last']
    torch.manual_seed(5)
    hybrid = transform(STUDENT, TEACHER, 0.5)
    torch.manual_seed(5)
    same = torch.equal(hybrid, transform(STUDENT, TEACHER + 1, 0.5))
    assert same == (prior != 'teacher')
    torch.manual_seed(6)  # another mask
    assert torch.equal(hybrid, transform(STUDENT, TEACHER, 0.5)) == (prior == 'none')
    with torch.no_grad():
        token = getattr(transform, 'mask_token', None)
        assert (token is not None) == (prior == 'mask_token')
        if token is not None:
            token[..., 0] += 1  # LayerNorm would take a constant off
            torch.manual_seed(5)
            assert not torch.allclose(hybrid, transform(STUDENT, TEACHER, 0.5))


@pytest.mark.parametrize('name', [*VIT, 'transform_conv1x1', 'transform_conv', 'transform_mlp'])
def test_transform(name):
    with parameters_on_meta():
        loss = MODELS.build(
            dict(load(name).model.distiller.distill_losses.loss_dpk, _scope_='mmrazor')
        )
    transform = loss.transforms['last']
    d = 512
    # one block: q and v with a bias, k without, the projection, two LayerNorms, an MLP of four times the width
    block = 4 * d * d + 3 * d + 4 * d + 8 * d * d + 5 * d
    table, embed, norm = 49 * d, d * d + d, 2 * d
    if name in VIT:
        encoder, decoder = VIT[name]
        blocks = (2 * encoder + decoder) * block + 3 * norm
        expected = 2 * embed + blocks + 3 * table + d * d + embed
        # without the tables: the known counts of these depths, in millions
        known = {(1, 1): 10.509, (2, 2): 19.964, (4, 4): 38.876, (6, 4): 51.483, (6, 6): 57.787}
        assert round((expected - 3 * table) / 1e6, 3) == known[VIT[name]]
    elif name == 'transform_conv1x1':
        expected = embed
    elif name == 'transform_conv':
        conv = 9 * d * d + norm
        expected = 2 * embed + (2 * 2 + 2) * conv + d * d + embed
    else:
        expected = 4 * embed + 6 * block + norm + table + embed
    assert count_parameters(transform) == expected
    kinds = dict(conv1x1='Conv', conv='ConvEncoderDecoder', mlp='MLPDecoder')
    kind = kinds.get(name.removeprefix('transform_'), 'DPK')
    assert type(transform).__name__ == f'{kind}Transform'


@pytest.mark.parametrize('supervise', ['full', 'student'])
def test_loss(supervise):
    value, mask, hybrid = run(f'loss_{supervise}')
    square = ((hybrid - TEACHER) ** 2).flatten(2)
    full, kept = square.mean().item(), square.mT[~mask.as_bool()].mean().item()
    assert value == pytest.approx(full if supervise == 'full' else kept, rel=1e-5)
    assert full != pytest.approx(kept, rel=1e-3)


@pytest.mark.parametrize(('name', 'sees'), [('encode_first', True), ('mask_random', False)])
def test_encode_first(name, sees):
    loss, _ = small_loss(name)
    mask = grid_mask(3, (9, 8), 0.5)
    transform = loss.transforms['last']
    row, column = divmod(int(mask.teacher[0, 0]), 8)
    poked = STUDENT.clone()
    poked[0, 0, row, column] += 3
    before, after = transform(STUDENT, TEACHER, 0.5, mask), transform(poked, TEACHER, 0.5, mask)
    assert torch.equal(before, after) != sees


@pytest.mark.parametrize('rule', ['sample', 'top', 'opposite'])
@pytest.mark.parametrize('score', ['activation', 'gap', 'uncertainty'])
def test_active(score, rule):
    _, mask, _ = run(f'active_{score}_{rule}')
    scores = {
        'activation': activation_scores(TEACHER),
        'gap': gap_scores(STUDENT, TEACHER),
        'uncertainty': uncertainty_scores(TEACHER, WEIGHT, BIAS),
    }[score]
    torch.manual_seed(5)
    select = 'top' if rule == 'top' else 'sample'
    expected = select_by_scores(scores, 36, select, opposite=rule == 'opposite')
    assert torch.equal(mask.teacher, expected.teacher)


@pytest.mark.parametrize('rule', ['sample', 'top', 'opposite'])
def test_active_foreground(rule):
    loss, seen = small_loss(f'active_foreground_{rule}')
    g = torch.Generator().manual_seed(1)
    feats = [
        tuple(torch.randn(2, 4, side, side, generator=g) for side in (64, 32, 16, 8))
        for _ in range(2)
    ]
    boxes = [torch.tensor([[20.0, 30.0, 180.0, 120.0]]), torch.zeros(0, 4)]
    samples = [
        SimpleNamespace(
            metainfo=dict(batch_input_shape=(256, 256)), gt_instances=SimpleNamespace(bboxes=b)
        )
        for b in boxes
    ]
    torch.manual_seed(5)
    assert loss(*feats, samples).isfinite()
    torch.manual_seed(5)
    for stage, side, k in (('P4', 16, 4), ('P5', 8, 2)):
        scores = foreground_scores(boxes, (256, 256), (side, side), k)
        count = num_masked_tokens(scores.shape[1], 0.5)
        select = 'top' if rule == 'top' else 'sample'
        expected = select_by_scores(scores, count, select, rule == 'opposite')
        assert torch.equal(seen[stage][0][0].teacher, expected.teacher)
    foreground = foreground_scores(boxes, (256, 256), (16, 16), 4)[0]
    share = foreground[seen['P4'][0][0].teacher[0]].mean() - foreground.mean()
    assert share < 0 if rule == 'opposite' else share > 0


def test_uncertainty_in_a_training_step():
    from mmpretrain.structures import DataSample

    cfg = load('active_uncertainty_sample').model
    cfg.teacher_ckpt = None
    for side in ('architecture', 'teacher'):
        cfg[side].head.num_classes = cfg[side].data_preprocessor.num_classes = 10
    stages(Config(dict(model=cfg)))['last'].update(
        embed_dims=8, decoder_embed_dims=8, encoder_depth=1, decoder_depth=1
    )
    torch.manual_seed(0)
    model = MODELS.build(cfg).train()
    recorded = model.distiller.get_record('class_weight', from_student=False)
    assert recorded is model.teacher.head.fc.weight
    assert model.distiller.get_record('class_bias', False) is model.teacher.head.fc.bias
    dpk = model.distiller.distill_losses['loss_dpk']
    given = {}
    dpk.transforms['last'].register_forward_hook(
        lambda module, args, out: given.update(teacher=args[1], mask=args[3])
    )
    dpk.mask_ratio = FixedMaskRatio(0.5)
    samples = [DataSample().set_gt_label(i) for i in range(4)]
    with mock.patch(
        'dpk_mm.modules.mask_strategy.select_by_scores', wraps=select_by_scores
    ) as select:
        losses = model(torch.randn(4, 3, 96, 96), samples, mode='loss')
    scores = select.call_args.args[0]
    expected = uncertainty_scores(
        given['teacher'], model.teacher.head.fc.weight, model.teacher.head.fc.bias
    )
    torch.testing.assert_close(scores, expected)
    assert given['mask'].teacher.shape == (4, 5)
    total, _ = model.parse_losses(losses)
    total.backward()
    missing = [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []
    assert all(p.grad is None for p in model.teacher.parameters())
