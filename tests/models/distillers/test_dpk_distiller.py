"""The last look at recorded features, which a sentence about NaN is written from."""

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.registry import init_default_scope
from mmrazor.models.losses import L2Loss
from mmrazor.registry import MODELS
from torch import nn
from torch.utils.checkpoint import checkpoint

import dpk_mm  # noqa: F401
from dpk_mm.errors import UsageError
from dpk_mm.models.loss_parts.distill_loss import WHOLE, DistillLoss
from dpk_mm.modules import CKAMaskRatio


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmrazor')


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Identity()
        self.head = nn.Linear(8, 3)

    def forward(self, features):
        features = self.body(features)
        return self.head(features[-1].mean((2, 3)))


def distiller(second):
    recorders = dict(
        logits=dict(type='ModuleOutputs', source='head'),
        neck=dict(type='ModuleOutputs', source='body'),
    )
    sizes = dict(embed_dims=8, encoder_depth=1, decoder_depth=1, num_heads=2, position_grid=2)
    widths = dict(student_channels=8, teacher_channels=8)
    built = MODELS.build(
        dict(
            type='DPKDistiller',
            student_recorders=recorders,
            teacher_recorders=recorders,
            distill_losses=dict(
                loss_kd=dict(type='KLDivergence'),
                loss_dpk=dict(
                    type='DPKLoss', transforms=dict(P5=dict(index=second, **sizes, **widths))
                ),
            ),
            loss_forward_mappings=dict(
                loss_kd=dict(
                    preds_S=dict(recorder='logits', from_student=True),
                    preds_T=dict(recorder='logits', from_student=False),
                ),
                loss_dpk=dict(
                    student_feats=dict(recorder='neck', from_student=True),
                    teacher_feats=dict(recorder='neck', from_student=False),
                ),
            ),
        )
    )
    built.distill_losses.loss_dpk.mask_ratio = CKAMaskRatio()  # as its hook does
    student, teacher = Net(), Net()
    built.prepare_from_student(student)
    built.prepare_from_teacher(teacher)
    features = [torch.randn(4, 8, 2, 2, requires_grad=True) for _ in range(2)]
    with built.student_recorders, built.teacher_recorders:
        student(tuple(features)), teacher(tuple(features))
    return built, features


@pytest.mark.parametrize('second', [1, -1])
def test_features_are_named_in_the_order_of_computation(second):
    built, features = distiller(second)
    assert set(built.compute_distill_losses()) == {'loss_kd', 'loss_dpk.P5'}
    seen = built.pop_seen()
    assert list(seen) == [
        f'{side} feature {name}'
        for side in ('teacher', 'student')
        for name in ('neck[0]', 'neck[1] (P5)', 'logits')
    ]
    assert seen['student feature neck[1] (P5)'].data_ptr() == features[1].data_ptr()  # no copy
    assert not any(value.requires_grad for value in seen.values())
    assert built.pop_seen() == {}


SIZES = dict(embed_dims=8, encoder_depth=1, decoder_depth=1, num_heads=2, position_grid=2)
DPK = dict(
    type='DPKLoss',
    transforms=dict(P5=dict(index=1, student_channels=8, teacher_channels=8, **SIZES)),
)


def build(**kwargs):
    return MODELS.build(dict(type='DPKDistiller', **kwargs))


def test_records_and_names_of_arguments_say_what_a_loss_gets():
    built = build(
        records=dict(feats='body', logits=dict(student='head', teacher='classifier.fc')),
        distill_losses=dict(loss_kd=dict(type='KDLoss'), loss_dpk=DPK),
    )
    assert built.loss_forward_mappings == dict(
        loss_kd=dict(
            student_logits=dict(recorder='logits', from_student=True),
            teacher_logits=dict(recorder='logits', from_student=False),
        ),
        loss_dpk=dict(
            student_feats=dict(recorder='feats', from_student=True),
            teacher_feats=dict(recorder='feats', from_student=False),
            data_samples=dict(recorder='data_samples', from_student=True, data_idx=1),
        ),
    )
    sources = {
        side: {name: r.source for name, r in getattr(built, f'{side}_recorders').recorders.items()}
        for side in ('student', 'teacher')
    }
    assert sources == dict(
        student=dict(feats='body', logits='head', data_samples=''),
        teacher=dict(feats='body', logits='classifier.fc'),
    )


def test_the_short_form_computes_what_the_explicit_one_does():
    short = build(
        records=dict(feats='body', logits='head'),
        distill_losses=dict(
            loss_kd=dict(type='KDLoss', tau=2.0, loss_weight=0.8), loss_feat=dict(type='Feats')
        ),
    )
    recorders = dict(
        neck=dict(type='ModuleOutputs', source='body'),
        logits=dict(type='ModuleOutputs', source='head'),
    )
    explicit = build(
        student_recorders=recorders,
        teacher_recorders=recorders,
        distill_losses=dict(
            loss_kd=dict(type='KLDivergence', tau=2.0, loss_weight=0.8),
            loss_feat=dict(type='Feats'),
        ),
        loss_forward_mappings=dict(
            loss_kd=dict(
                preds_S=dict(recorder='logits', from_student=True),
                preds_T=dict(recorder='logits', from_student=False),
            ),
            loss_feat=dict(
                student_feats=dict(recorder='neck', from_student=True),
                teacher_feats=dict(recorder='neck', from_student=False),
            ),
        ),
    )
    torch.manual_seed(0)
    student, teacher = Net(), Net()
    features = tuple(torch.randn(4, 8, 2, 2, requires_grad=True) for _ in range(2))
    values = []
    for built in (short, explicit):
        built.prepare_from_student(student)
        built.prepare_from_teacher(teacher)
        with built.student_recorders, built.teacher_recorders:
            student(features), teacher(features)
        values.append({k: v.item() for k, v in built.compute_distill_losses().items()})
    assert values[0] == values[1]
    assert list(values[0]) == ['loss_kd', 'loss_feat']
    assert values[0]['loss_kd'] > 0


@MODELS.register_module(name='Feats', force=True)
class _Feats(DistillLoss):
    def parts(self, student_feats, teacher_feats):
        return {
            WHOLE: sum(
                (s - 2 * t).square().mean()
                for s, t in zip(student_feats, teacher_feats, strict=True)
            )
        }


def test_explicit_mappings_stand_and_are_completed():
    built = build(
        records=dict(feats='body', other='head'),
        distill_losses=dict(loss_feat=dict(type='Feats')),
        loss_forward_mappings=dict(
            loss_feat=dict(student_feats=dict(recorder='other', from_student=True))
        ),
    )
    assert built.loss_forward_mappings['loss_feat'] == dict(
        student_feats=dict(recorder='other', from_student=True),
        teacher_feats=dict(recorder='feats', from_student=False),
    )


def test_none_drops_a_loss_and_a_record_of_a_base_config():
    built = build(
        records=dict(feats='body', logits=None),
        distill_losses=dict(loss_kd=None, loss_feat=dict(type='Feats')),
    )
    assert list(built.distill_losses) == ['loss_feat']
    assert list(built.student_recorders.recorders) == ['feats']


def test_none_drops_the_mappings_of_a_base_config_too():
    own = dict(student_feats=dict(recorder='other', from_student=True))
    built = build(
        records=dict(feats='body', other='body'),
        distill_losses=dict(loss_dpk=None, loss_feat=dict(type='Feats')),
        loss_forward_mappings=dict(loss_dpk=own, loss_feat=own, loss_gone=None),
    )
    assert list(built.loss_forward_mappings) == ['loss_feat']
    assert built.loss_forward_mappings['loss_feat']['student_feats']['recorder'] == 'other'


@pytest.mark.parametrize(
    ('losses', 'message'),
    [
        (dict(loss_feat=dict(type='Feats')), 'has loss_feat; did you mean loss_feat'),
        (dict(kd=dict(type='Feats')), 'has kd; name a loss, or take the mapping out'),
        ({}, 'there is no loss; name'),
    ],
)
def test_mappings_of_no_loss_are_a_sentence(losses, message):
    mapping = dict(student_feats=dict(recorder='feats', from_student=True))
    with pytest.raises(
        UsageError, match=f"loss_forward_mappings has 'loss_feats', but .*{message}"
    ):
        build(
            records=dict(feats='body'),
            distill_losses=losses,
            loss_forward_mappings=dict(loss_feats=mapping),
        )


@pytest.mark.parametrize(
    ('records', 'losses', 'message'),
    [
        (
            dict(logits='head'),
            dict(loss_dpk=DPK),
            r'loss_dpk: DPKLoss needs student_feats, but the records of the student are logits.*records=dict\(feats=',
        ),
        (
            None,
            dict(loss_kd=dict(type='KDLoss')),
            'needs student_logits, but there is none of the student',
        ),
        (
            dict(logit='head'),
            dict(loss_kd=dict(type='KDLoss')),
            'logit, data_samples|logit; did you mean logit',
        ),
        (
            dict(logits='head'),
            dict(loss_kd=dict(type='KLDivergence')),
            'KLDivergence takes preds_S, which no record fills.*KDLoss',
        ),
        (dict(feats=dict(pupil='neck')), {}, "records.feats must be .* but has the key 'pupil'"),
        (dict(feats=3), {}, 'records.feats must be the name of a module.* but is 3'),
        (dict(feats=[]), {}, r'records.feats must be .* but is \[\]'),
    ],
)
def test_what_nothing_fills_is_a_sentence(records, losses, message):
    with pytest.raises(UsageError, match=message):
        build(records=records, distill_losses=losses)


def test_a_delete_that_has_nothing_to_delete_is_no_recorder(tmp_path):
    """mmengine leaves ``_delete_`` in a dict where the base config has none."""
    from mmengine.config import Config

    (tmp_path / 'base.py').write_text('distiller = dict(records=dict(feats="neck"))\n')
    (tmp_path / 'own.py').write_text(
        '_base_ = "base.py"\n'
        'maps = dict(type="ModuleOutputs", source="head")\n'
        'distiller = dict(\n'
        '    student_recorders=dict(_delete_=True, cls=maps),\n'
        '    teacher_recorders=dict(_delete_=True, cls=maps),\n'
        '    distill_losses=dict(_delete_=True, loss=dict(type="ChannelWiseDivergence")),\n'
        '    loss_forward_mappings=dict(_delete_=True, loss=dict(\n'
        '        preds_S=dict(recorder="cls", from_student=True),\n'
        '        preds_T=dict(recorder="cls", from_student=False))))\n'
    )
    cfg = Config.fromfile(tmp_path / 'own.py').distiller
    assert '_delete_' in cfg.student_recorders
    distiller = MODELS.build(dict(cfg, type='mmrazor.DPKDistiller'))
    assert sorted(distiller.student_recorders.recorders) == ['cls', 'feats']
    assert list(distiller.loss_forward_mappings) == ['loss']


class Checkpointed(nn.Module):
    """Two layers, of which the first may be run under activation checkpointing."""

    def __init__(self, reentrant=None):
        super().__init__()
        self.reentrant = reentrant
        self.block = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
        self.head = nn.Linear(3, 3)

    def forward(self, x):
        if self.reentrant is None:
            x = self.block(x)
        else:
            x = checkpoint(self.block, x, use_reentrant=self.reentrant)
        return self.head(x)


def losses_of(student, record, name='loss_l2', **mapping):
    built = build(
        records=dict(feats=record),
        distill_losses={name: dict(type='L2Loss')},
        connectors=dict(
            own=dict(
                type='TorchNNConnector',
                module_name='Linear',
                module_args=dict(in_features=3, out_features=3),
            )
        ),
        loss_forward_mappings={
            name: dict(
                s_feature=dict(recorder='feats', from_student=True, **mapping),
                t_feature=dict(recorder='feats', from_student=False),
            )
        },
    )
    teacher = Checkpointed()
    built.prepare_from_student(student)
    built.prepare_from_teacher(teacher)
    with built.student_recorders, built.teacher_recorders:
        # a reentrant checkpoint needs an input with a gradient
        student(torch.randn(2, 3, requires_grad=bool(student.reentrant)))
        teacher(torch.randn(2, 3))
    return built.compute_distill_losses()


@pytest.mark.parametrize('mapping', [{}, dict(connector='own')])
def test_a_record_without_a_graph_teaches_nothing_and_is_refused(mapping):
    message = (
        r'loss_l2 teaches the student nothing: .* block\.0, which.*\(with_cp\).*use_reentrant=False'
    )
    with pytest.raises(UsageError, match=message):
        losses_of(Checkpointed(True), 'block.0', **mapping)
    frozen = Checkpointed()
    frozen.block.requires_grad_(False)
    with pytest.raises(UsageError, match=message):
        losses_of(frozen, 'block.0', **mapping)


def test_a_loss_that_reads_more_than_its_records_is_not_asked_for_a_graph(monkeypatch):
    monkeypatch.setattr(L2Loss, 'prepare_from_student', lambda self, model: None, raising=False)
    student = Checkpointed()
    student.block.requires_grad_(False)
    assert losses_of(student, 'block.0').keys() == {'loss_l2'}


def test_records_with_a_graph_and_losses_that_need_none():
    for reentrant, record in ((None, 'block.0'), (False, 'block.0'), (True, 'block.1')):
        student = Checkpointed(reentrant)
        losses_of(student, record)['loss_l2'].backward()
        assert student.block[0].weight.grad.any()
    for student in (Checkpointed(True).requires_grad_(False), Checkpointed(True).eval()):
        losses_of(student, 'block.0')
    losses_of(Checkpointed(True), 'block.0', name='distance')  # for the log
    with torch.no_grad():
        losses_of(Checkpointed(True), 'block.0')


def test_init_cfg_of_losses_and_connectors_is_used_and_others_keep_their_values():
    def connector(**init_cfg):
        return dict(
            type='TorchNNConnector',
            module_name='Linear',
            module_args=dict(in_features=3, out_features=3),
            init_cfg=init_cfg or None,
        )

    constant = dict(type='Constant', layer='Linear', val=0.5, bias=0.25)
    norm = dict(type='ConvModuleConnector', in_channel=3, out_channel=3)
    built = build(
        records=dict(feats='block'),
        connectors=dict(
            a=connector(**constant), b=[connector(), connector(**constant)], c=connector(), d=norm
        ),
        distill_losses=dict(loss_own=dict(type='WithWeights', init_cfg=constant)),
        loss_forward_mappings=dict(loss_own=dict(x=dict(recorder='feats', from_student=True))),
    )
    state = {name: value.clone() for name, value in built.state_dict().items()}
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    built.init_weights()
    assert torch.equal(torch.rand(1), expected)  # nothing is drawn that was not asked for
    set_ = ('connectors.a.', 'connectors.b.1.', 'distill_losses.loss_own.')
    for name, value in built.state_dict().items():
        if name.startswith(set_):
            assert (value == (0.25 if name.endswith('bias') else 0.5)).all(), name
        else:
            assert torch.equal(value, state[name]), name


@MODELS.register_module(name='WithWeights', force=True)
class _WithWeights(BaseModule):
    def __init__(self, init_cfg=None):
        super().__init__(init_cfg)
        self.fc = nn.Linear(2, 2)

    def forward(self, x):
        return self.fc(x).sum()


def test_a_loss_that_writes_forward_alone_would_not_be_trained_with():
    with pytest.raises(TypeError, match=r'Twice writes forward\(\), which .* write parts\(\) in'):

        class Twice(_Feats):
            def forward(self, student_feats, teacher_feats):
                return 2 * super().forward(student_feats, teacher_feats)

    class Own(_Feats):
        def parts(self, student_feats):
            return {WHOLE: student_feats.sum()}

    assert Own()(torch.ones(3)) == 3
