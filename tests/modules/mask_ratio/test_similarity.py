import json
import math
import os

import pytest
import torch
import torch.distributed as dist

from dpk_mm.functional import cka_from_sums, hsic_sums, minibatch_cka
from dpk_mm.modules.mask_ratio import CKAMaskRatio, CosineMaskRatio
from tests.helpers.forked import run_ranks
from tests.helpers.related_features import OPEN, related_pair


def test_cka_of_the_images():
    pairs = dict(P4=related_pair(), P5=related_pair(seed=1, shape=(1, 2)))
    policy = CKAMaskRatio(**OPEN)
    ratios = policy(pairs)
    assert list(ratios) == ['P4', 'P5']
    for name, (s, t) in pairs.items():
        cka = minibatch_cka(s, t).item()
        assert 0.05 < cka < 0.999
        assert policy.similarities[name] == pytest.approx(cka)
        assert ratios[name] == policy.ratios[name] == pytest.approx(1 - cka)


def test_cka_of_the_positions():
    s, t = related_pair(n=2)
    rows = [(i, y, x) for i in range(2) for y in range(2) for x in range(3)]
    cka = minibatch_cka(
        torch.stack([s[i, :, y, x] for i, y, x in rows]),
        torch.stack([t[i, :, y, x] for i, y, x in rows]),
    ).item()
    assert 0.05 < cka < 0.999
    assert CKAMaskRatio('positions', **OPEN)(dict(P5=(s, t)))['P5'] == pytest.approx(1 - cka)


def test_positions_and_images_are_different_numbers():
    pair = dict(P5=related_pair())
    images, positions = CKAMaskRatio(**OPEN)(pair), CKAMaskRatio('positions', **OPEN)(pair)
    assert abs(images['P5'] - positions['P5']) > 1e-3


def test_positions_of_a_student_of_another_size():
    s, t = related_pair(n=2, shape=(4, 4))
    small = s[..., ::2, ::2]
    large = torch.nn.functional.interpolate(small, (4, 4), mode='bilinear', align_corners=False)
    ratio = CKAMaskRatio('positions', **OPEN)
    assert ratio(dict(a=(small, t)))['a'] == pytest.approx(ratio(dict(a=(large, t)))['a'])


def test_a_constant_feature_has_similarity_zero():
    s, t = related_pair()
    policy = CKAMaskRatio()
    assert policy(dict(P5=(torch.full_like(s, 0.3), t))) == dict(P5=0.95)
    assert policy.similarities == dict(P5=0.0)


def test_no_graph_is_built():
    s, t = related_pair()
    ratio = CKAMaskRatio()(dict(P5=(s.requires_grad_(), t)))['P5']
    assert type(ratio) is float


def test_too_few_images_in_the_first_batch():
    with pytest.raises(
        ValueError, match="at least 4 samples, but stage 'P5' has 3 images"
    ) as error:
        CKAMaskRatio()(dict(P5=related_pair(n=3)))
    assert "samples='positions'" in str(error.value)


@pytest.mark.parametrize('bad', ['few', 'nan', 'inf'])
def test_a_batch_without_a_similarity_keeps_the_last_ratio(bad):
    policy = CKAMaskRatio(**OPEN)
    first = dict(policy(dict(P4=related_pair(seed=2), P5=related_pair())))
    similarities = dict(policy.similarities)
    s, t = related_pair(n=3 if bad == 'few' else 6, seed=7)
    if bad != 'few':
        s[0, 0, 0, 0] = float(bad)
    ratios = policy(dict(P4=related_pair(seed=3), P5=(s, t)))
    assert ratios['P5'] == first['P5']
    assert policy.similarities['P5'] == similarities['P5']
    assert ratios['P4'] == pytest.approx(1 - minibatch_cka(*related_pair(seed=3)).item())


def test_nan_in_the_first_batch_takes_the_upper_limit():
    s, t = related_pair()
    policy = CKAMaskRatio(max_ratio=0.8)
    assert policy(dict(P5=(s * math.nan, t))) == dict(P5=0.8)
    assert policy.similarities == {}


def test_cosine():
    s, t = related_pair(student=5, noise=0.1)
    t = s.abs() + t  # related by more than chance
    values = []
    for i in range(6):
        for c in range(5):
            a, b = s[i, c].flatten().double(), t[i, c].flatten().double()
            values.append(float(a @ b / (a.norm() * b.norm())))
    mean = sum(values) / len(values)
    policy = CosineMaskRatio(min_ratio=0.0, max_ratio=1.0)
    assert policy(dict(P5=(s, t)))['P5'] == pytest.approx(min(1.0, 1 - mean), abs=1e-6)
    assert policy.similarities['P5'] == pytest.approx(mean, abs=1e-6)
    assert policy(dict(P5=(s, s)))['P5'] == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match='needs equal shapes'):
        policy(dict(P5=related_pair()))


def test_a_resumed_policy_has_a_ratio_to_keep():
    policy, fresh = CKAMaskRatio(), CKAMaskRatio()
    first = dict(policy(dict(P5=related_pair())))
    fresh.load_state_dict(policy.state_dict())
    assert fresh(dict(P5=related_pair(n=2))) == first


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: CKAMaskRatio('pixels'), "samples must be one of .* but is 'pixels'"),
        (lambda: CKAMaskRatio('positions', gather=True), "gather=True needs samples='images'"),
    ],
)
def test_arguments_that_do_not_fit(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def _rank_pair(rank, n=6):
    return related_pair(n=n, seed=rank, noise=0.2 + rank)


def _rank_batches(rank):
    sizes = [(6, 6), (6, 2), (3, 3), (5, 7), (6, 6)]
    return [
        related_pair(n=size[rank], seed=10 * i + rank, noise=0.2 + rank + 0.3 * i)
        for i, size in enumerate(sizes)
    ]


def _one_rank(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    out = {}
    policy = CKAMaskRatio(**OPEN)
    out['images'] = policy(dict(P5=_rank_pair(rank)))['P5']
    # the second rank's last mini-batch is short
    out['short'] = policy(dict(P5=related_pair(n=(6, 2)[rank], seed=5)))['P5']
    out['both_short'] = policy(dict(P5=related_pair(n=2)))['P5']
    s, t = _rank_pair(rank)
    out['nan'] = policy(dict(P5=(s * (1.0, math.nan)[rank], t)))['P5']
    # three images on a rank are too few alone
    out['gather'] = CKAMaskRatio(gather=True, **OPEN)(dict(P5=_rank_pair(rank, 3)))['P5']
    out['gather_uneven'] = CKAMaskRatio(gather=True, **OPEN)(dict(P5=_rank_pair(rank, 2 + rank)))[
        'P5'
    ]
    # three mini-batches, of which the second is too small on one rank and the third on both
    for kind in (dict(window=3), dict(momentum=0.7)):
        policy, name = CKAMaskRatio(**kind, **OPEN), next(iter(kind))
        ratios = [policy(dict(P5=pair))['P5'] for pair in _rank_batches(rank)]
        out[name] = ratios
        out[f'{name}_state'] = policy.state_dict()
    # no rank may wait for another that has raised
    out['errors'] = []
    for policy, pair in (
        (CKAMaskRatio(), related_pair(n=3)),
        (CKAMaskRatio(gather=True), related_pair(shape=(2, 3 + rank))),
    ):
        try:
            policy(dict(P5=pair))
        except ValueError as error:
            out['errors'].append(str(error))
    out['first_short'] = CKAMaskRatio(**OPEN)(dict(P5=related_pair(n=(6, 3)[rank], seed=5)))['P5']
    a, b = related_pair(student=5, seed=rank)
    out['cosine'] = CosineMaskRatio(**OPEN)(dict(P5=(a, a + b.abs() * (1 + rank))))['P5']
    with open(os.path.join(folder, f'{rank}.json'), 'w') as file:
        json.dump(out, file)
    dist.destroy_process_group()


def test_two_ranks_mask_the_same_share(tmp_path):
    run_ranks(_one_rank, tmp_path, folder=tmp_path)
    first, second = (json.loads((tmp_path / f'{rank}.json').read_text()) for rank in range(2))
    assert first == second

    pairs = [_rank_pair(rank) for rank in range(2)]
    averaged = cka_from_sums(sum(hsic_sums(*pair) for pair in pairs) / 2).item()
    # neither rank's own CKA nor their mean
    assert abs(averaged - sum(minibatch_cka(*pair).item() for pair in pairs) / 2) > 1e-4
    assert first['images'] == pytest.approx(1 - averaged)

    assert first['short'] == pytest.approx(1 - minibatch_cka(*related_pair(seed=5)).item())
    assert first['both_short'] == first['nan'] == first['short']

    pairs = [_rank_pair(rank, 3) for rank in range(2)]
    joined = minibatch_cka(*(torch.cat(side) for side in zip(*pairs, strict=True))).item()
    assert first['gather'] == pytest.approx(1 - joined)

    pairs = [_rank_pair(rank, 2 + rank) for rank in range(2)]
    joined = minibatch_cka(*(torch.cat(side) for side in zip(*pairs, strict=True))).item()
    assert first['gather_uneven'] == pytest.approx(1 - joined)

    means = []  # of the ranks that have enough images, mini-batch by mini-batch
    for pairs in zip(_rank_batches(0), _rank_batches(1), strict=True):
        sums = [hsic_sums(*pair) for pair in pairs if pair[0].shape[0] >= 4]
        means.append(sum(sums) / len(sums) if sums else None)
    for name, weight in (('window', lambda age: age < 3), ('momentum', lambda age: 0.7**age)):
        seen = []
        for ratio, mean in zip(first[name], means, strict=True):
            seen += [] if mean is None else [mean]
            total = sum(weight(len(seen) - 1 - i) * value for i, value in enumerate(seen))
            assert ratio == pytest.approx(1 - cka_from_sums(total).item())

    few, shapes = first['errors']
    assert "at least 4 samples, but stage 'P5' has 3 images" in few
    assert "one size on all ranks, but stage 'P5' has (6, 3, 2, 3), (6, 3, 2, 4)" in shapes
    assert first['first_short'] == first['short']

    pairs = [related_pair(student=5, seed=rank) for rank in range(2)]
    cosines = [
        torch.cosine_similarity(a.flatten(2), (a + b.abs() * (1 + r)).flatten(2), dim=2).mean()
        for r, (a, b) in enumerate(pairs)
    ]
    assert first['cosine'] == pytest.approx(1 - sum(cosines).item() / 2, abs=1e-6)
