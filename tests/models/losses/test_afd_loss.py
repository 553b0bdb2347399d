"""AFD against the paper's formulas, written out image by image in float64."""

import math

import pytest
import torch

import dpk_mm  # noqa: F401
from dpk_mm.errors import UsageError
from dpk_mm.models.losses import AFDLoss

STUDENT = [(3, 8), (5, 4)]  # channels, side
TEACHER = [(4, 6), (7, 4)]
STAGES = [
    dict(index=i, student_channels=s[0], teacher_channels=t[0], weight=1.0 + i)
    for i, (s, t) in enumerate(zip(STUDENT, TEACHER, strict=True))
]


def inputs():
    torch.manual_seed(3)
    return [[torch.randn(3, c, z, z).double() for c, z in side] for side in (STUDENT, TEACHER)]


def attention_map(x):
    """Squares averaged over channels, of one image, [H, W] -> vector of length 1."""
    strength = sum(channel**2 for channel in x) / len(x)
    return strength


def unit(x):
    x = x.flatten()
    return x / math.sqrt(sum(value.item() ** 2 for value in x))


def normalised(rows):
    """Batch normalisation in training mode, of weight 1 and bias 0."""
    mean = rows.mean(0)
    return (rows - mean) / ((rows - mean) ** 2).mean(0).add(1e-5).sqrt()


def slow(loss, student, teacher):
    """L_AFD of the paper, alpha included; or the authors' code's mean of squares."""
    n = len(student[0])

    def linear(layer, rows):
        return normalised(rows @ layer.weight.T + layer.bias)

    query = [linear(loss.queries[f'stage{t}'][0], x.mean((2, 3))) for t, x in enumerate(teacher)]
    key = [
        linear(loss.keys[f'stage{s}'][0], x.mean((2, 3))).clamp_min(0)
        for s, x in enumerate(student)
    ]
    # the batch normalisation of the bilinear layer sees the keys of all stages and images together
    rows = torch.stack([key[s][i] for i in range(n) for s in range(len(key))])
    mixed = linear(loss.bilinear[0], rows)
    total = 0.0
    for i in range(n):
        for t in range(len(teacher)):
            scores = []
            for s in range(len(student)):
                part = mixed[i * len(student) + s][t * loss.width : (t + 1) * loss.width]
                score = (part @ query[t][i]).item()
                score += (loss.teacher_positions[t] @ loss.student_positions[s]).item()
                scores.append(math.exp(score / math.sqrt(loss.width)))
            theirs = unit(attention_map(teacher[t][i]))
            side = teacher[t].shape[-1]
            for s in range(len(student)):
                ours = torch.nn.functional.adaptive_avg_pool2d(
                    attention_map(student[s][i])[None], side
                )
                squares = (unit(ours) - theirs) ** 2
                gap = squares.mean() if loss.mode == 'code' else squares.sum().sqrt()
                share = scores[s] / sum(scores)
                total += STAGES[t]['weight'] * share * gap.item() / n
    return loss.loss_weight * total


@pytest.mark.parametrize('mode', ['code', 'paper'])
def test_the_value_is_that_of_the_formula(mode):
    student, teacher = inputs()
    loss = AFDLoss(STAGES, width=6, mode=mode, loss_weight=200.0).double()
    assert loss(student, teacher).item() == pytest.approx(slow(loss, student, teacher), rel=1e-9)


def test_the_attention_sums_to_one_over_the_students_stages():
    student, teacher = inputs()
    shares = AFDLoss(STAGES).double().attention(student, teacher)
    assert shares.shape == (3, 2, 2)
    torch.testing.assert_close(shares.sum(2), torch.ones(3, 2).double())


def test_arguments_out_of_range():
    with pytest.raises(ValueError, match='width of AFDLoss must be an integer > 0, but is 0'):
        AFDLoss(STAGES, width=0)
    with pytest.raises(
        UsageError, match='student_channels in .* must be an integer > 0, but is None'
    ):
        AFDLoss([dict(index=0)])


def test_one_image_is_refused_in_training_alone():
    student, teacher = ([x[:1] for x in side] for side in inputs())
    loss = AFDLoss(STAGES).double()
    with pytest.raises(UsageError, match='AFDLoss has batch normalisation.*raise train_dataloader'):
        loss(student, teacher)
    assert torch.isfinite(loss.eval()(student, teacher))
