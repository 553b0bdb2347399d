"""Strategies by name: each is the function that it stands for, exact in count, without a loop over images."""

import pytest
import torch

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
from dpk_mm.modules import MaskContext, build_mask

G = torch.Generator().manual_seed(0)
STUDENT, TEACHER = torch.randn(3, 4, 8, 10, generator=G), torch.randn(3, 5, 8, 10, generator=G)
CONTEXT = MaskContext(
    boxes=[
        torch.tensor([[5.0, 5.0, 30.0, 20.0]]),
        torch.zeros(0, 4),
        torch.tensor([[0.0, 0, 9, 9]]),
    ],
    image_shape=(64, 80),
    class_weight=torch.randn(7, 5, generator=G),
    class_bias=torch.randn(7, generator=G),
)
SCORES = {
    'teacher_activation': lambda k: activation_scores(TEACHER, k),
    'gap': lambda k: gap_scores(STUDENT, TEACHER, k),
    'foreground': lambda k: foreground_scores(CONTEXT.boxes, (64, 80), (8, 10), k),
    'uncertainty': lambda k: uncertainty_scores(
        TEACHER, CONTEXT.class_weight, CONTEXT.class_bias, k
    ),
}
ALL = [
    'random',
    'block',
    'grid',
    *(
        dict(type='scores', score=score, select=select, opposite=opposite)
        for score in SCORES
        for select in ('sample', 'top')
        for opposite in (False, True)
    ),
]


def _draw(cfg, ratio, k=2, context=CONTEXT, seed=7):
    torch.manual_seed(seed)
    return build_mask(cfg)(ratio, STUDENT, TEACHER, k, context)


@pytest.mark.parametrize('cfg', ALL, ids=str)
@pytest.mark.parametrize('ratio', [0.0, 0.13, 0.5, 0.75, 1.0])
def test_measured_share_is_the_asked_one_to_the_nearest_token(cfg, ratio):
    mask = _draw(cfg, ratio)
    count = num_masked_tokens(20, ratio)
    assert mask.teacher.shape == (3, count) and mask.student.shape == (3, 20 - count)
    assert mask.as_bool().sum(1).tolist() == [count] * 3
    both = torch.cat([mask.student, mask.teacher], 1).sort(1).values
    assert torch.equal(both, torch.arange(20).expand(3, -1))


def _equal(a, b):
    return torch.equal(a.student, b.student) and torch.equal(a.teacher, b.teacher)


def test_each_name_is_its_function():
    torch.manual_seed(7)
    assert _equal(_draw('random', 0.4), _seeded(random_mask, 3, 20, 0.4))
    assert _equal(_draw('block', 0.4), _seeded(block_mask, 3, (4, 5), 0.4))
    cfg = dict(type='block', min_area=0.3, aspect_ratio=0.9)
    expected = _seeded(block_mask, 3, (4, 5), 0.4, min_area=0.3, aspect_ratio=0.9)
    assert _equal(_draw(cfg, 0.4), expected)
    assert not _equal(_draw(cfg, 0.4), _draw('block', 0.4))
    assert _equal(_draw('grid', 0.4), grid_mask(3, (4, 5), 0.4))


def _seeded(function, *args, **kwargs):
    torch.manual_seed(7)
    return function(*args, **kwargs)


@pytest.mark.parametrize('opposite', [False, True])
@pytest.mark.parametrize('select', ['sample', 'top'])
@pytest.mark.parametrize('score', SCORES)
@pytest.mark.parametrize('k', [1, 2])
def test_scores_choose(score, select, opposite, k):
    found = _draw(dict(type='scores', score=score, select=select, opposite=opposite), 0.3, k)
    scores = SCORES[score](k)
    count = num_masked_tokens(scores.shape[1], 0.3)
    assert _equal(found, _seeded(select_by_scores, scores, count, select, opposite))
    if select == 'top':
        given, kept = scores.gather(1, found.teacher), scores.gather(1, found.student)
        if opposite:
            given, kept = kept, given
        assert (given.amin(1) >= kept.amax(1)).all()


@pytest.mark.parametrize('score', SCORES)
def test_no_gradient_flows_into_a_mask(score):
    student, teacher = STUDENT.clone().requires_grad_(), TEACHER.clone().requires_grad_()
    mask = build_mask(dict(type='scores', score=score))(0.5, student, teacher, 1, CONTEXT)
    assert not mask.teacher.requires_grad


@pytest.mark.parametrize(('score', 'needs'), [('foreground', 'boxes'), ('uncertainty', 'class_w')])
def test_what_a_score_needs_is_named(score, needs):
    with pytest.raises(ValueError, match=rf"score='{score}' needs {needs}"):
        _draw(dict(type='scores', score=score), 0.5, context=None)


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (
            'blocks',
            r"^mask is 'blocks', which is unknown; did you mean 'block'\? Known: random, bl",
        ),
        (dict(score='gap'), r'^mask needs type, one of random, block, grid, scores'),
        (dict(type='scores', score='Gap'), r"^mask\.score is 'Gap'.* Known: teacher_activation, "),
        (dict(type='scores', select='best'), r"^mask\.select is 'best'.* Known: sample, top"),
        (dict(type='block', min_area=2), r'^mask\.min_area of a block mask must be .* is 2'),
        (dict(type='grid', size=3), r"^mask: GridMask has no argument 'size'"),
        (dict(type='scores', opposit=True), r"^mask: .* 'opposit'.*did you mean 'opposite'"),
    ],
)
def test_configs_that_do_not_fit(cfg, message):
    with pytest.raises(ValueError, match=message):
        build_mask(cfg)
