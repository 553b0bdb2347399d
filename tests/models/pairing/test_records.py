import pytest

from dpk_mm.errors import UsageError
from dpk_mm.models.pairing.levels import LevelPair
from dpk_mm.models.pairing.probe import Feature, Look
from dpk_mm.models.pairing.records import one_by_one, records_of, shared_levels


def look(*features, task='detector', **kwargs):
    return Look(task, 'Some', (64, 64), None, [*features], **kwargs)


def feature(cells, index=0, source='neck', alone=''):
    return Feature(source, index, 8, (cells, cells), 64 / cells, alone=alone)


def ignore(*row):
    """Takes a row."""


def test_the_shared_levels_and_what_is_left_out():
    rows = []
    own, given = look(feature(16, 0), feature(8, 1)), look(feature(8, 0), feature(4, 1))
    levels = shared_levels(own, given, 'fgd', lambda *row: rows.append(row))
    assert [(level.student.index, level.teacher.index) for level in levels] == [(1, 0)]
    assert 'of the student left out' in rows[0][2]
    assert 'of the teacher left out' in rows[0][2]


def test_levels_of_few_cells_are_left_out():
    both = look(feature(8, 0), feature(2, 1))
    assert [level.student.index for level in shared_levels(both, both, 'fgd', ignore)] == [0]
    alone = look(feature(2, 0))
    assert len(shared_levels(alone, alone, 'fgd', ignore)) == 1


def test_levels_without_boxes_of_a_two_stage_student_are_left_out():
    both = look(feature(16, 0), feature(8, 1), attributes=dict(roi_strides=(4,)))
    assert [level.student.index for level in shared_levels(both, both, 'fgd', ignore)] == [0]


def test_no_features_and_no_common_stride():
    with pytest.raises(
        UsageError, match='no features of one stride: 4 of the student and 16 of the'
    ):
        shared_levels(look(feature(16)), look(feature(4)), 'fgd', ignore)
    with pytest.raises(
        UsageError,
        match='model.teacher: because, so dpk finds no features; take a method on logits',
    ):
        shared_levels(
            look(feature(8), task='classifier'),
            look(task='classifier', why_none='because'),
            'dpk',
            ignore,
        )


def test_sources_by_side():
    one, many = (
        LevelPair(feature(8), feature(8)),
        LevelPair(feature(8, None, 'a'), feature(8, None, 'b')),
    )
    assert records_of(['fgd'], [one], look(), look()) == dict(feats='neck')
    assert records_of(['dpk'], [many], look(), look()) == dict(
        feats=dict(student=['a'], teacher=['b'])
    )


def test_logits_and_embedding():
    own, given = look(logits='fc'), look(logits='head')
    assert records_of(['kd'], [], own, given) == dict(logits=dict(student='fc', teacher='head'))
    assert records_of(['kd'], [], own, own) == dict(logits='fc')
    assert records_of(['pkt'], [], own, given)['embedding']['teacher'] == dict(
        type='ModuleInputs', source='head'
    )
    with pytest.raises(
        UsageError, match='model.teacher: no module of a Some gives the logits, which kd'
    ):
        records_of(['kd'], [], own, look())


def test_several_levels_are_recorded_one_by_one():
    first, last = feature(8, None, 'layer3'), feature(4, 0, 'backbone', 'layer4')
    pairs = [LevelPair(first, first), LevelPair(last, last)]
    assert [p.student.source for p in one_by_one(pairs)] == ['layer3', 'layer4']
    assert one_by_one(pairs[1:]) == pairs[1:]
    whole = [last._replace(index=i) for i in range(2)]
    mixed = one_by_one([LevelPair(whole[0], first), LevelPair(whole[1], last)])
    assert [(p.student.index, p.teacher.source) for p in mixed] == [(0, 'layer3'), (1, 'layer4')]
    hidden = last._replace(alone='')
    assert one_by_one([pairs[0], LevelPair(hidden, hidden)]) == [LevelPair(hidden, hidden)]
