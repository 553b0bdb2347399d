"""At most one wait for the device in a step, and the counter sees what would be one."""

import pytest
import torch

from dpk_mm.functional import HostCopy
from tools.benchmark_suites import syncs as module
from tools.benchmark_suites.syncs import HostReads, count_waits, syncs

DETECTOR = 'configs/mini/faster_rcnn_dpk.py'
CLASSIFIER = 'configs/mini/fashion_cnn_dpk.py'


@pytest.mark.parametrize(
    ('config', 'size'),
    [(DETECTOR, (64, 64)), (CLASSIFIER, (28, 28))],
    ids=['detector', 'classifier'],
)
def test_a_step_waits_once_for_the_ratio_and_not_at_all_one_step_late(config, size):
    prompt, place, late = syncs(config, device='cpu', batch_size=4, image_size=size)
    assert (prompt.count, late.count) == (1, 0)
    assert place.case.strip().startswith('modules/mask_ratio/similarity.py:')


def flag():
    return torch.arange(4, device='cpu') % 2 == 0


WAITS = {
    'item': lambda x: x.sum().item(),
    'if': lambda x: 1 if x.sum() > 0 else 0,
    'tolist': lambda x: x.tolist(),
    'cpu': lambda x: x.cpu(),
    'bool index': lambda x: x[flag()],
    'nonzero': lambda x: x.nonzero(),
    'where': lambda x: torch.where(x > 0),
    'new tensor': lambda x: x.new_tensor([1.0]),
    'tensor on a device': lambda x: torch.tensor([1.0], device=x.device),
    'host tensor moved': lambda x: torch.zeros(2).to(x.device),
}
GOES_ON = {
    'arithmetic': lambda x: (x * 2).sum(),
    'made there': lambda x: torch.zeros(2, device=x.device) + x.new_full((1,), 3.0),
    'filled by a mask': lambda x: x.clone().__setitem__(flag(), 0.0),
    'host tensor': lambda x: torch.ones(3).sum().item(),
    'read after the copy': lambda x: HostCopy(x).get().sum().item(),
}


@pytest.fixture
def ours(monkeypatch):
    # the calls below are in this file
    monkeypatch.setattr(module, '_place', lambda frame: ('here', True))


@pytest.mark.parametrize('name', WAITS)
def test_waits_are_counted(name, ours):
    x = torch.rand(4) + 1
    assert count_waits(lambda: WAITS[name](x)).total() == 1


@pytest.mark.parametrize('name', GOES_ON)
def test_what_does_not_wait_is_not_counted(name, ours):
    x = torch.rand(4) + 1
    assert not count_waits(lambda: GOES_ON[name](x))


def test_only_our_own_lines_are_counted():
    with HostReads() as reads:
        torch.rand(4, device='cpu').sum().item()
    assert not reads.places


def test_a_read_after_cpu_counts_once(ours):
    x = torch.rand(4)
    assert count_waits(lambda: x.cpu().sum().item()).total() == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
@pytest.mark.parametrize('config', [DETECTOR, CLASSIFIER])
def test_cuda_agrees(config):
    size = (64, 64) if config == DETECTOR else (28, 28)
    rows = syncs(config, device='cuda', batch_size=4, image_size=size)
    sums = [row.count for row in rows if 'waits' in row.case]
    assert sums[0] <= 1 and sums[1] == 0
