"""What all losses on levels share: which features are compared, and what is said about those that do not fit."""

import pytest
import torch

from dpk_mm.errors import UsageError
from dpk_mm.models.loss_parts.level_loss import LevelLoss
from tests.helpers.pyramid import features


class Squares(LevelLoss):
    def term(self, level, student, teacher):
        return (student - teacher).square().mean()


def squares(student, teacher):
    return (student - teacher).square().mean().item()


def test_levels_of_other_places_and_weights():
    student, teacher = features(6, 1), features(6, 2)
    shifted = [features(6, 9)[2], *teacher]
    levels = [
        dict(student_index=0, teacher_index=1),
        dict(student_index=2, teacher_index=3, weight=0.5),
        dict(index=1, weight=0),
    ]
    expected = squares(student[0], teacher[0]), 0.5 * squares(student[2], teacher[2])
    loss = Squares(levels, 6, 6, loss_weight=2.0)
    assert loss(student, shifted).item() == pytest.approx(2 * sum(expected))
    parts = Squares(levels, 6, 6, loss_weight=2.0, by_level=True).parts(student, shifted)
    assert {name: part.item() for name, part in parts.items()} == {
        'level0': pytest.approx(2 * expected[0]),
        'level2': pytest.approx(2 * expected[1]),
    }


def test_all_weights_zero_is_a_loss_of_zero():
    loss = Squares([dict(index=0, weight=0)], 6, 6)
    assert loss(features(6, 1), features(6, 2)).item() == 0


def test_channels_of_one_level():
    loss = Squares((0, dict(index=1, student_channels=3)), 6, 6)
    assert list(loss.align) == ['1']
    loss([features(6, 1)[0], features(3, 1)[1]], features(6, 2))


def test_another_size_is_resized_and_said_once(monkeypatch):
    messages = []
    monkeypatch.setattr(
        'dpk_mm.models.loss_parts.level_loss.print_log', lambda text, **_: messages.append(text)
    )
    student, teacher = features(6, 1, [(5, 7)]), features(6, 2, [(8, 12)])
    resized = torch.nn.functional.interpolate(student[0], size=(8, 12), mode='bilinear')
    loss = Squares((0,), 6, 6)
    for _ in range(2):
        assert loss(student, teacher).item() == pytest.approx(squares(resized, teacher[0]))
    assert len(messages) == 1 and 'Squares resizes' in messages[0]
    assert 'level 0 from (5, 7) to (8, 12)' in messages[0]


def test_another_stride_is_no_pair():
    student, teacher = features(6, 1, [(8, 12)]), features(6, 2, [(16, 24)])
    with pytest.raises(UsageError, match="Squares: level 0 compares the student's map of 8x12"):
        Squares((0,), 6, 6)(student, teacher)
    Squares([dict(index=0, resize=True)], 6, 6)(student, teacher)


@pytest.mark.parametrize(
    ('student', 'teacher', 'message'),
    [
        (features(6, 1)[:2], features(6, 2), 'level 2 .* the student has 2 features'),
        (features(6, 1), features(6, 2)[:1], 'level 2 .* the teacher has 1 features'),
        (features(5, 1), features(6, 2), r"student's feature of level 0 .*\[N, 6, .*\[2, 5, 8,"),
        (features(6, 1), features(7, 2), r"teacher's feature of level 0 .*\[N, 6, .*\[2, 7, 8,"),
        ([f[:1] for f in features(6, 1)], features(6, 2), 'found 1 of the student and 2 of'),
    ],
)
def test_wrong_features_are_named(student, teacher, message):
    with pytest.raises(ValueError, match=message):
        Squares((0, 1, 2), 6, 6)(student, teacher)
