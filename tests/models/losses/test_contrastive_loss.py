"""CRD against the values of public code over three steps; its memory, draws, ranks and resumption."""

import copy
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch.nn.functional import normalize

import dpk_mm  # noqa: F401
from dpk_mm.errors import UsageError
from dpk_mm.models.losses import ContrastiveLoss
from tests.helpers.forked import run_ranks
from tests.helpers.golden_features import check, fill

IDX = [3, 17, 20, 41]


def sample(place, label=0):
    return SimpleNamespace(sample_idx=place, gt_label=torch.tensor([label]))


def build(**kwargs):
    arguments = dict(num_images=50, student_channels=6, teacher_channels=10, width=8, negatives=12)
    loss = ContrastiveLoss(**(arguments | kwargs))
    for k, parameter in enumerate(loss.embed.parameters()):
        fill(parameter, k)
    return loss.train()


def batch(n=4, seed=0):
    torch.manual_seed(seed)
    return [torch.randn(n, 6, requires_grad=True)], [torch.randn(n, 10)]


def test_three_steps_are_those_of_public_code(monkeypatch):
    torch.manual_seed(10)
    memories = [normalize(torch.randn(50, 8), dim=1) for _ in range(2)]
    student, teacher = torch.randn(4, 6, requires_grad=True), torch.randn(4, 10)
    negatives = torch.randint(0, 50, (4, 12))
    loss = build(draw='any')
    loss.student_memory.copy_(memories[0])
    loss.teacher_memory.copy_(memories[1])
    monkeypatch.setattr(loss, '_draw', lambda places, labels: negatives)
    samples = [sample(place) for place in IDX]
    check(loss([student], [teacher], samples), student, 22.00565, 0.7612689)
    assert loss.norms.tolist() == pytest.approx([26238.89, 100920.1], rel=1e-5)
    assert loss.student_memory[IDX].sum().item() == pytest.approx(-1.930316, rel=1e-5)
    loss([student], [teacher], samples).backward()
    check(loss([student], [teacher], samples), student, 27.08817, 1.118563)


def test_only_a_backward_pass_moves_the_memories_and_once():
    loss = build()
    before = copy.deepcopy(loss.state_dict())
    student, teacher = batch()
    samples = [sample(place, label) for label, place in enumerate(IDX)]
    value = loss(student, teacher, samples)
    with torch.no_grad():
        torch.testing.assert_close(loss(student, teacher, samples), value)
    for key, old in before.items():
        assert torch.equal(loss.state_dict()[key], old)
    value.backward(retain_graph=True)
    once = copy.deepcopy(loss.state_dict())
    value.backward()
    for key, new in once.items():
        assert torch.equal(loss.state_dict()[key], new)
    moved = (once['student_memory'] != before['student_memory']).any(1).nonzero()[:, 0]
    assert moved.tolist() == IDX
    assert loss.labels[IDX].tolist() == [0, 1, 2, 3]
    assert loss.steps == 1


def test_negatives_are_other_images_of_other_classes():
    loss = build(negatives=400)
    loss.labels.copy_(torch.arange(50) % 2)
    drawn = loss._draw(torch.tensor(IDX), torch.tensor(IDX) % 2)
    assert drawn.shape == (4, 400)
    assert ((drawn % 2) != (torch.tensor(IDX) % 2)[:, None]).all()
    # all of the other class are drawn
    assert set(drawn[0].tolist()) == {place for place in range(50) if place % 2 == 0}


def test_images_that_were_not_seen_may_be_drawn_but_never_the_image_itself():
    loss = build(num_images=4, negatives=100)
    drawn = loss._draw(torch.tensor([2, 1]), torch.tensor([7, 7]))
    assert set(drawn.flatten().tolist()) == {0, 3}
    loss.labels.fill_(7)
    with pytest.raises(UsageError, match='has seen 4 images of one class alone'):
        loss._draw(torch.tensor([2]), torch.tensor([7]))


def test_a_resumed_run_goes_on_bit_for_bit():
    def step(loss, seed):
        student, teacher = batch(seed=seed)
        value = loss(student, teacher, [sample(place, place % 3) for place in IDX])
        value.backward()
        return value.item()

    loss = build()
    step(loss, 1)
    state = copy.deepcopy(loss.state_dict())
    expected = [step(loss, 2), step(loss, 3)]
    torch.manual_seed(77)
    resumed = build()
    resumed.load_state_dict(state)
    assert [step(resumed, 2), step(resumed, 3)] == expected


def test_a_nan_does_not_reach_the_memories():
    loss = build()
    student, teacher = batch()
    teacher[0][1, 2] = float('nan')
    value = loss(student, teacher, [sample(place) for place in IDX])
    value.backward()
    assert value.isnan()
    assert torch.isfinite(loss.teacher_memory).all() and loss.steps == 0


def test_an_image_that_is_there_twice_is_written_once():
    loss = build(momentum=0.0)
    student, teacher = batch()
    loss(student, teacher, [sample(place) for place in (3, 5, 3, 41)]).backward()
    expected = normalize(loss.embed['student'](student[0]), dim=1)
    torch.testing.assert_close(loss.student_memory[[5, 3, 41]], expected[1:].detach())


def test_the_least_temperature_is_within_float32():
    loss = build(temperature=0.02)
    student, teacher = batch()
    with torch.no_grad():  # as close as embeddings can be
        loss.teacher_memory[IDX] = normalize(loss.embed['student'](student[0]), dim=1)
        loss.student_memory[IDX] = normalize(loss.embed['teacher'](teacher[0]), dim=1)
    exact = copy.deepcopy(loss).double()
    samples = [sample(place) for place in IDX]
    expected = exact([student[0].double()], [teacher[0].double()], samples).item()
    value = loss(student, teacher, samples)
    assert value.item() == pytest.approx(expected, rel=1e-4)
    value.backward()
    assert student[0].grad.isfinite().all() and loss.norms.isfinite().all()


def _one_rank(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    torch.manual_seed(0)
    loss = build()
    for step in range(2):
        torch.manual_seed(10 * step + rank)
        student, teacher = [torch.randn(2, 6, requires_grad=True)], [torch.randn(2, 10)]
        samples = [sample(IDX[2 * rank + i], i) for i in range(2)]
        loss(student, teacher, samples).backward()
    torch.save(loss.state_dict(), f'{folder}/{rank}.pth')
    dist.destroy_process_group()


def test_two_ranks_have_the_same_memories(tmp_path):
    run_ranks(_one_rank, tmp_path, folder=tmp_path)
    first, second = (torch.load(tmp_path / f'{rank}.pth') for rank in range(2))
    for key in ('student_memory', 'teacher_memory', 'norms', 'labels', 'steps'):
        assert torch.equal(first[key], second[key])
    assert (first['labels'] >= 0).nonzero()[:, 0].tolist() == IDX
    assert first['steps'] == 2


def _one_failed_rank(rank, folder):
    """The second one computes the loss as ``DPKDistill`` does after a failed forward pass."""
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo',
        init_method=f'file://{folder}/store',
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    loss = build()
    student, teacher = batch(2, seed=rank)
    with torch.set_grad_enabled(rank == 0):
        value = loss(student, teacher, [sample(IDX[2 * rank + i], i) for i in range(2)])
    if rank == 0:
        value.backward()
    # the next thing that ranks exchange is the same on both
    total = torch.ones(1)
    dist.all_reduce(total)
    print(total.item(), loss.steps.item(), (loss.labels >= 0).nonzero()[:, 0].tolist())
    dist.destroy_process_group()


def test_a_rank_without_a_gradient_takes_part(tmp_path):
    first, second = run_ranks(_one_failed_rank, tmp_path, folder=tmp_path, seconds=120)
    assert f'2.0 1 {IDX}' in first
    assert '2.0 0 []' in second


@pytest.mark.parametrize(
    ('samples', 'message'),
    [
        ([sample(1)] * 3, 'one data sample for each image, but found 3 for 4'),
        ([sample(50)] * 4, 'sample_idx in 0 to 49 in every data sample, but found 50'),
        ([SimpleNamespace(gt_label=torch.tensor([1]))] * 4, 'but found None; set num_images'),
        ([SimpleNamespace(sample_idx=1)] * 4, "draw='other_classes' needs 'gt_label' of one class"),
        ([sample(9, 2)] * 4, 'two classes under one sample_idx: the images of several data sets'),
    ],
)
def test_samples_that_do_not_fit(samples, message):
    loss = build()
    loss.labels[9] = 1
    with pytest.raises(UsageError, match=message):
        loss(*batch(), samples)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(num_images=1), 'num_images of ContrastiveLoss must be at least 2'),
        (dict(negatives=0), 'negatives of ContrastiveLoss must be an integer > 0, but is 0'),
        (dict(temperature=0.01), 'needs temperature >= 0.02 and momentum .* are 0.01 and 0.5'),
        (dict(draw='all'), "draw of ContrastiveLoss must be one of .* but is 'all'"),
    ],
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
