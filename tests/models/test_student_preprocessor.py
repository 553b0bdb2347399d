"""A stock config's preprocessor, and what a distillation makes of it."""

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmrazor.registry import MODELS

import dpk_mm  # noqa: F401
from dpk_mm.engine.runner.prepare import prepare_config
from dpk_mm.errors import UsageError
from dpk_mm.models.student_preprocessor import student_preprocessor

STOCK = dict(num_classes=5, mean=[10.0, 20.0, 30.0], std=[2.0, 4.0, 5.0], to_rgb=True)


def classifier(**kwargs):
    return dict(
        _scope_='mmpretrain',
        type='ImageClassifier',
        backbone=dict(type='ResNet', depth=18, base_channels=8, stem_channels=8, init_cfg=None),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=5, in_channels=64),
        **kwargs,
    )


def distillation(**architecture):
    record = dict(logits=dict(type='ModuleOutputs', source='head.fc'))
    return dict(
        _scope_='mmrazor',
        type='DPKDistill',
        architecture=classifier(**architecture),
        teacher=classifier(data_preprocessor=dict(STOCK)),
        distiller=dict(
            type='DPKDistiller',
            student_recorders=record,
            teacher_recorders=record,
            distill_losses=dict(loss_kd=dict(type='KLDivergence')),
            loss_forward_mappings=dict(
                loss_kd=dict(
                    preds_S=dict(recorder='logits', from_student=True),
                    preds_T=dict(recorder='logits', from_student=False),
                )
            ),
        ),
    )


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmrazor')


def runner_model(top, tmp_path, **architecture):
    cfg = Config(
        dict(
            model=distillation(**architecture),
            data_preprocessor=top,
            default_scope='mmrazor',
            work_dir=str(tmp_path),
            experiment_name=tmp_path.name,
        )
    )
    return Runner.from_cfg(prepare_config(cfg)).model


def pixels(n=4):
    from mmpretrain.structures import DataSample

    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 255, (n, 3, 32, 32), generator=draw, dtype=torch.uint8)
    return dict(inputs=images, data_samples=[DataSample().set_gt_label(i) for i in range(n)])


def test_the_student_takes_the_preprocessor_at_the_top(tmp_path):
    model = runner_model(dict(STOCK), tmp_path)
    batch = pixels()
    found = model.data_preprocessor(dict(batch), True)['inputs']
    rgb = batch['inputs'].flip(1).float()
    expected = (rgb - torch.tensor(STOCK['mean']).view(3, 1, 1)) / torch.tensor(STOCK['std']).view(
        3, 1, 1
    )
    torch.testing.assert_close(found, expected)
    assert model.data_preprocessor is model.student.data_preprocessor
    assert model.teacher_input.same


def test_mixup_is_applied_once_to_what_both_see(tmp_path):
    augments = dict(augments=[dict(type='Mixup', alpha=0.8)])
    model = runner_model(dict(STOCK), tmp_path, train_cfg=augments).train()
    seen = {}
    for side in ('student', 'teacher'):
        getattr(model, side).backbone.register_forward_pre_hook(
            lambda module, inputs, side=side: seen.update({side: inputs[0]})
        )
    batch = pixels()
    torch.manual_seed(3)
    import numpy as np

    np.random.seed(3)
    data = model.data_preprocessor(batch, True)
    model._run_forward(data, mode='loss')
    assert torch.equal(seen['student'], data['inputs'])
    assert torch.equal(seen['teacher'], data['inputs'])
    # the labels are those of one mix: lam * onehot(i) + (1 - lam) * onehot(j), and so are the images
    plain = runner_model(dict(STOCK), tmp_path / 'plain').data_preprocessor(pixels(), False)[
        'inputs'
    ]
    for index, sample in enumerate(data['data_samples']):
        mixed = sum(share * plain[other] for other, share in enumerate(sample.gt_score[:4]))
        torch.testing.assert_close(data['inputs'][index], mixed, atol=1e-4, rtol=1e-4)
    shares = torch.stack([sample.gt_score for sample in data['data_samples']])
    torch.testing.assert_close(shares.sum(1), torch.ones(4))
    assert (shares.max(1).values < 1).any()


def test_explicit_settings_go_before_what_is_filled_in(tmp_path):
    mixup = dict(augments=[dict(type='Mixup', alpha=0.8)])
    cutmix = dict(augments=[dict(type='mmpretrain.CutMix', alpha=1.0)])
    model = runner_model(
        dict(STOCK, type='mmpretrain.ClsDataPreprocessor', batch_augments=cutmix),
        tmp_path,
        train_cfg=mixup,
    )
    names = [type(a).__name__ for a in model.data_preprocessor.batch_augments.augments]
    assert names == ['CutMix']
    model = runner_model(dict(STOCK, batch_augments=None), tmp_path / 'none', train_cfg=mixup)
    assert model.data_preprocessor.batch_augments is None


def test_the_one_at_the_top_goes_before_the_students_and_that_is_said(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(
        'dpk_mm.models.student_preprocessor.print_log', lambda text, *_, **__: said.append(text)
    )
    mixup = dict(augments=[dict(type='Mixup', alpha=0.8)])
    own = dict(STOCK, mean=[1.0, 2.0, 3.0], batch_augments=mixup)
    model = runner_model(dict(STOCK), tmp_path, data_preprocessor=dict(own))
    assert model.data_preprocessor.mean.flatten().tolist() == STOCK['mean']
    assert model.data_preprocessor.batch_augments is not None
    assert model.student.data_preprocessor is model.data_preprocessor
    assert len(said) == 1
    assert 'differ in mean, std or channel order' in said[0]

    said.clear()
    same = dict(STOCK, mean=list(STOCK['mean']))
    runner_model(dict(STOCK), tmp_path / 'same', data_preprocessor=same)
    assert said == []


def test_a_model_that_fills_in_no_type_is_refused():
    class Plain(BaseModel):
        def forward(self, inputs, data_samples=None, mode='tensor'):
            return inputs

    with pytest.raises(UsageError, match=r'no type \(mean, std\), and a Plain .* add one'):
        student_preprocessor(dict(mean=[0], std=[1]), Plain())


def test_a_stock_classifier_is_the_reference(tmp_path):
    """The same settings given to mmpretrain's own model make the same preprocessor."""
    augments = dict(augments=[dict(type='Mixup', alpha=0.8)])
    alone = MODELS.build(classifier(train_cfg=augments, data_preprocessor=dict(STOCK)))
    ours = runner_model(dict(STOCK), tmp_path, train_cfg=augments)
    a, b = alone.data_preprocessor, ours.data_preprocessor
    assert type(a) is type(b)
    for name in ('num_classes', 'to_rgb', 'to_onehot', 'pad_value', 'pad_size_divisor'):
        assert getattr(a, name) == getattr(b, name), name
    kinds = [[type(x) for x in p.batch_augments.augments] for p in (a, b)]
    assert kinds[0] == kinds[1]


def test_another_padding_is_said(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(
        'dpk_mm.models.student_preprocessor.print_log', lambda text, *_, **__: said.append(text)
    )
    runner_model(dict(STOCK), tmp_path, data_preprocessor=dict(STOCK, pad_size_divisor=64))
    assert len(said) == 1 and 'differ in pad_size_divisor; the former is used' in said[0]
