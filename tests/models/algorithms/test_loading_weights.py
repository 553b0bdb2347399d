"""Weights loaded into a distilled model by code that is not ours."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.model import ExponentialMovingAverage
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import load_state_dict
from mmpretrain.apis import ImageClassificationInferencer, get_model
from mmrazor.registry import MODELS
from torch import nn

import dpk_mm  # noqa: F401
from dpk_mm.checkpoint.distilled import grouped
from dpk_mm.errors import UsageError


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmpretrain')


def student(classes=5, base_channels=8, **kwargs):
    return dict(
        _scope_='mmpretrain',
        type='ImageClassifier',
        backbone=dict(
            type='ResNet_CIFAR', depth=18, base_channels=base_channels, stem_channels=base_channels
        ),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=classes, in_channels=base_channels * 8),
        **kwargs,
    )


def config(**kwargs):
    given = kwargs.pop('architecture', {})
    return dict(
        _scope_='mmrazor',
        type='DPKDistill',
        architecture=student(**given),
        teacher=student(),
        distiller=dict(
            type='ConfigurableDistiller',
            student_recorders=dict(fc=dict(type='ModuleOutputs', source='head.fc')),
            teacher_recorders=dict(fc=dict(type='ModuleOutputs', source='head.fc')),
            distill_losses=dict(loss_kl=dict(type='KLDivergence')),
            connectors=dict(c=dict(type='ConvModuleConnector', in_channel=5, out_channel=5)),
            loss_forward_mappings=dict(
                loss_kl=dict(
                    preds_S=dict(from_student=True, recorder='fc'),
                    preds_T=dict(from_student=False, recorder='fc'),
                )
            ),
        ),
        **kwargs,
    )


def build(**kwargs):
    model = MODELS.build(config(**kwargs))
    model.init_weights()
    return model


def spoil(model):
    """Values that no initialisation gives."""
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) * 0.2 + 0.1)
    return model


def same(left: nn.Module, right: nn.Module) -> bool:
    left, right = left.state_dict(), right.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.fixture(scope='module')
def source():
    init_default_scope('mmpretrain')
    return spoil(build())


def plain(source):
    return source.architecture.state_dict()


def full(source):
    return source.state_dict()


def of_mmrazor(source):
    return {**full(source), **{f'teacher.{k}': v for k, v in plain(source).items()}}


def of_ranks(source):
    return {f'module.{k}': v for k, v in full(source).items()}


def published(source):
    mean = torch.zeros(3, 1, 1)
    return {**plain(source), 'data_preprocessor.mean': mean}


@pytest.mark.parametrize('form', [plain, full, of_mmrazor, of_ranks, published])
def test_the_students_weights_are_found(form, source, tmp_path, logged):
    torch.save(dict(state_dict=form(source), meta={}), tmp_path / 'a.pth')
    model = build()
    logged.clear()
    load_checkpoint(model, str(tmp_path / 'a.pth'))
    assert same(model.architecture, source.architecture)
    has_distiller = form not in (plain, published)
    assert same(model.distiller, source.distiller) == has_distiller
    # neither from here nor from mmengine
    assert not any('weights of the student' in line or 'missing keys' in line for line in logged)
    assert not any('no place' in line or 'unexpected key' in line for line in logged)
    assert any('The distiller is not from the file' in line for line in logged) != has_distiller
    # what a model holds it also takes strictly, and twice
    model.load_state_dict(full(source), strict=True)


def test_a_strict_load_still_asks_for_the_distiller(source):
    model = build()
    with pytest.raises(RuntimeError, match='Missing key.*distiller'):
        model.load_state_dict(plain(source), strict=True)


def test_versions_of_modules_come_along(source):
    state = plain(source)
    for name in [name for name in state if name.endswith('num_batches_tracked')]:
        del state[name]
    model = build()
    # batch norm of version 1 had no counters, so that nothing is missing then
    for entry in state._metadata.values():
        entry.pop('version', None)
    keys = model.load_state_dict(state, strict=False)
    assert not any(name.startswith('architecture.') for name in keys.missing_keys)


def test_other_classes_start_anew_and_are_named(source, logged):
    model = build(architecture=dict(classes=5))
    state = plain(source)
    state['head.fc.weight'], state['head.fc.bias'] = torch.ones(80, 64), torch.ones(80)
    before = model.architecture.head.fc.weight.clone()
    logged.clear()
    load_state_dict(model, state)
    assert torch.equal(model.architecture.head.fc.weight, before)
    assert same(model.architecture.backbone, source.architecture.backbone)
    (line,) = [line for line in logged if 'weights of the student' in line]
    total = sum(not name.endswith('num_batches_tracked') for name in state)
    assert line.startswith(f'2 of the {total} weights of the student, ImageClassifier, are not')
    assert 'architecture.head.fc.weight [80, 64] instead of [5, 64]' in line
    assert 'architecture.head.fc.bias [80] instead of [5]' in line


def test_what_is_missing_and_left_over_is_named(source, logged):
    state = {k: v for k, v in plain(source).items() if not k.startswith('head.')}
    state |= {'neck.a.weight': torch.ones(1), 'neck.a.bias': torch.ones(1)}
    model = build()
    logged.clear()
    model.load_state_dict(state, strict=False)
    assert sum('not in the file: architecture.head.*.' in line for line in logged) == 1
    assert sum('not used: architecture.neck.*.' in line for line in logged) == 1


@pytest.mark.parametrize(
    'state',
    [
        {'conv1.weight': torch.ones(1), 'fc.bias': torch.ones(1)},
        {'architecture.stem.weight': torch.ones(1), 'distiller.b': torch.ones(1)},
    ],
)
def test_a_file_of_which_nothing_fits_is_refused(state):
    with pytest.raises(UsageError, match='holds none of the weights of the student, ImageC'):
        build().load_state_dict(state, strict=False)


def test_a_student_of_another_width_is_refused():
    with pytest.raises(UsageError, match=r'another network .*: \d+ of \d+ weights are of'):
        build().load_state_dict(build(architecture=dict(base_channels=12)).state_dict(), False)


def test_averaged_models_and_copies(source):
    model = copy.deepcopy(ExponentialMovingAverage(build()))
    model.load_state_dict({f'module.{k}': v for k, v in plain(source).items()}, strict=False)
    assert same(model.module.architecture, source.architecture)
    model = ExponentialMovingAverage(build())
    model.load_state_dict(ExponentialMovingAverage(source).state_dict())  # as a resumed run does
    assert same(model.module, source)


@pytest.mark.parametrize('form', [plain, full])
@pytest.mark.parametrize('place', ['algorithm', 'student'])
def test_pretrained_as_init_cfg(form, place, source, tmp_path):
    torch.save(dict(state_dict=form(source)), tmp_path / 'a.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'))
    kwargs = dict(architecture=dict(init_cfg=init_cfg)) if place == 'student' else {}
    kwargs |= dict(init_cfg=init_cfg) if place == 'algorithm' else {}
    assert same(build(**kwargs).architecture, source.architecture)


@pytest.mark.parametrize('form', [plain, full])
def test_mmpretrains_inferencer_predicts_with_the_students_weights(form, source, tmp_path):
    classes = ('a', 'b', 'c', 'd', 'e')
    meta = dict(dataset_meta=dict(classes=classes))
    torch.save(dict(state_dict=form(source), meta=meta), tmp_path / 'a.pth')
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
    cfg = Config(
        dict(
            model=config(
                architecture=dict(data_preprocessor=dict(mean=[0.0] * 3, std=[255.0] * 3))
            ),
            test_dataloader=dict(dataset=dict(type='ImageNet', pipeline=pipeline)),
        )
    )
    model = get_model(cfg, pretrained=str(tmp_path / 'a.pth'))
    assert same(model.architecture, source.architecture)
    inferencer = ImageClassificationInferencer(cfg, pretrained=str(tmp_path / 'a.pth'))
    image = torch.rand(8, 8, 3).mul(255).byte().numpy()
    scores = torch.tensor(inferencer(image)[0]['pred_scores'])
    inputs = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        expected = copy.deepcopy(source).eval().architecture(inputs).softmax(1)[0]
    assert torch.allclose(scores, expected, atol=1e-6)


def test_parts_are_named_as_a_whole():
    among = ['a.b.x', 'a.b.y', 'a.c.x', 'd.x', 'd.y', 'e']
    assert grouped(['a.b.x', 'a.b.y', 'd.x', 'e'], among) == ['a.b.*', 'd.x', 'e']
    assert grouped(among, among) == ['a.*', 'd.*', 'e']
