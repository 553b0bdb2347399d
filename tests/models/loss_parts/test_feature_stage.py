"""What an entry of ``stages`` may say, and what of it a feature has to keep."""

import pytest
import torch

from dpk_mm.errors import UsageError
from dpk_mm.models.loss_parts.feature_stage import check_scale, parse_stages, pick_feature


def one(**kwargs):
    (stage,) = parse_stages([dict(index=0) | kwargs], 'L')
    return stage


def test_the_entries():
    first, second = parse_stages(
        [
            dict(index=1),
            dict(index=0, weight=0.0),
            dict(student_index=-1, teacher_index=2, weight=2, scale=0.5, teacher_channels=4),
        ],
        'L',
    )
    assert first[:6] == (1, 1, 1.0, None, None, 1.0)
    assert second[:6] == (-1, 2, 2.0, None, 4, 0.5)
    assert (first.name, second.name) == ('stage1', 'stage_last1')
    assert parse_stages([dict(index=0, pooled=True)], 'L', extra=['pooled'])[0].extra == dict(
        pooled=True
    )


@pytest.mark.parametrize(
    ('stages', 'message'),
    [
        (dict(index=0), 'stages of L must be a list of dicts'),
        ([], 'names no stage of a weight > 0'),
        ([dict(index=0, weight=0)], 'names no stage of a weight > 0'),
        ([1], r'stages\[0\] of L must be a dict with index, .* but is 1'),
        ([dict(idx=1)], "has no key 'idx', only index.*did you mean index"),
        ([dict(weight=1)], 'needs the index of the student, .* but has None'),
        ([dict(student_index=1)], 'needs the index of the teacher'),
        ([dict(index=True)], 'needs the index of the student, .* but has True'),
        ([dict(index=0)] * 2, "names the student's stage stage0 twice"),
        ([dict(index=0, weight=-1)], 'weight in .* must be a finite number >= 0, but is -1'),
        ([dict(index=0, scale=0)], r"scale in .* side over the teacher's, .* but is 0"),
        ([dict(index=0, student_channels=0)], 'student_channels in .* integer > 0, but is 0'),
    ],
)
def test_entries_that_are_refused(stages, message):
    with pytest.raises(UsageError, match=message):
        parse_stages(stages, 'L')


def test_keys_that_a_loss_does_not_read():
    with pytest.raises(UsageError, match=r'stages\[0\] of L has scale=2, which .* leave it out'):
        parse_stages([dict(index=0, scale=2)], 'L', unread=['scale'])
    with pytest.raises(UsageError, match=r"has no key 'w', only .*, teacher_channels\.$"):
        parse_stages([dict(index=0, w=2)], 'L', unread=['scale'])


def test_channels_that_are_needed():
    with pytest.raises(UsageError, match='teacher_channels in .* integer > 0, but is None'):
        parse_stages([dict(index=0, student_channels=3)], 'L', needs_channels=True)


def test_a_feature_is_picked_in_float32_and_the_teachers_without_gradient():
    x = torch.randn(2, 3, 4, 4).half().requires_grad_()
    stage = one(index=-1)
    student, teacher = (
        pick_feature(stage, side, [x * 0, x], 'L') for side in ('student', 'teacher')
    )
    assert student.dtype == teacher.dtype == torch.float32
    assert student.requires_grad and not teacher.requires_grad
    assert torch.equal(teacher, x.float())
    assert pick_feature(stage, 'student', x.double(), 'L').dtype == torch.float64


def test_features_that_do_not_fit():
    x = torch.randn(2, 3, 4, 4)
    with pytest.raises(UsageError, match='compares the stage 2 of the teacher, .* has 1 features'):
        pick_feature(one(index=2), 'teacher', [x], 'L')
    with pytest.raises(UsageError, match=r"student's stage 0 to be \[N, 5, H, W\], .* \[2, 3, 4"):
        pick_feature(one(student_channels=5), 'student', [x], 'L')
    with pytest.raises(UsageError, match=r'to be \[N, C, H, W\], but found \[2, 3\]'):
        pick_feature(one(), 'student', [x[..., 0, 0]], 'L')


@pytest.mark.parametrize(
    ('scale', 'student', 'teacher', 'fits'),
    [
        (1, 8, 8, True),
        (1, 7, 8, True),
        (1, 16, 8, False),
        (1, 1, 2, False),
        (2, 16, 8, True),
        (2, 15, 8, True),
        (2, 8, 8, False),
        (0.5, 8, 16, True),
        (0.5, 8, 15, True),
        (0.5, 8, 8, False),
        (4, 32, 8, True),
        (4, 29, 8, True),
        (4, 16, 8, False),
        # a 3x3 convolution of stride 2 makes 2 of 3
        (2, 3, 2, True),
        (0.5, 2, 3, True),
        (1, 2, 3, False),
        (2, 2, 2, False),
        (2, 1, 1, False),
    ],
)
def test_scale_is_checked_but_for_a_cell_of_rounding(scale, student, teacher, fits):
    maps = torch.ones(2, 1, student, student), torch.ones(2, 1, teacher, teacher)
    if fits:
        check_scale(one(scale=scale), *maps, 'L')
        return
    with pytest.raises(UsageError, match=f'set scale={student / teacher:g} there'):
        check_scale(one(scale=scale), *maps, 'L')


def test_other_batches_are_refused():
    with pytest.raises(UsageError, match='stage0 has 2 of the student and 3 of the teacher'):
        check_scale(one(), torch.ones(2, 1, 4, 4), torch.ones(3, 1, 4, 4), 'L')
