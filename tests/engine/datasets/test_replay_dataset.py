import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from dpk_mm.engine.datasets.replay_dataset import ReplayDataset, fingerprint, seeded


class Noise(Dataset):
    """What transforms do: draws from all three generators."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return dict(x=[index, random.random(), float(np.random.rand()), float(torch.rand(()))])


def epoch(dataset, number, **kwargs):
    dataset.set_pass(number)
    loader = DataLoader(dataset, collate_fn=list, **kwargs)
    return {item['x'][0]: item['x'] for batch in loader for item in batch}


def test_an_image_of_a_pass_is_the_same_in_any_order_and_in_any_worker():
    dataset = ReplayDataset(Noise(), passes=3, seed=5)
    first, second = epoch(dataset, 0), epoch(dataset, 1)
    assert all(first[i][k] != second[i][k] for i in range(6) for k in (1, 2, 3))
    assert len({x[1] for x in first.values()}) == 6
    assert epoch(dataset, 0, shuffle=True, batch_size=4) == first
    assert epoch(dataset, 3) == first  # after three passes it begins again
    assert epoch(ReplayDataset(Noise(), passes=9, seed=5), 1) == second
    assert epoch(ReplayDataset(Noise(), passes=3, seed=6), 0) != first


def test_workers_that_live_on_see_the_next_pass():
    dataset = ReplayDataset(Noise(), passes=3)
    expected = [epoch(dataset, number) for number in range(2)]
    loader = DataLoader(dataset, collate_fn=list, num_workers=1, persistent_workers=True)
    for number in range(2):
        dataset.set_pass(number)
        assert {b[0]['x'][0]: b[0]['x'] for b in loader} == expected[number]


def test_the_generators_of_the_process_are_left_as_they_were():
    dataset = ReplayDataset(Noise(), passes=1)
    dataset.set_pass(0)
    values = []
    for touch in (False, True):
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)
        if touch:
            dataset[3]
            with pytest.raises(ZeroDivisionError), seeded(1):
                raise ZeroDivisionError
        values.append((random.random(), np.random.rand(), torch.rand(()).item()))
    assert values[0] == values[1]


def test_without_the_hook_it_says_so():
    with pytest.raises(ValueError, match='mmrazor.ReplayHook'):
        ReplayDataset(Noise(), passes=2)[0]


def test_the_fingerprint_sees_every_setting():
    cfg = dict(type='A', pipeline=[dict(type='RandomCrop', padding=4)])
    other = dict(type='A', pipeline=[dict(type='RandomCrop', padding=5)])
    assert fingerprint(cfg, 0) == fingerprint(dict(reversed(cfg.items())), 0)
    assert len({fingerprint(cfg, 0), fingerprint(cfg, 1), fingerprint(other, 0)}) == 3
