from types import SimpleNamespace

import torch

from dpk_mm.engine.hooks.measuring import loss_scale, on_every_rank
from tests.helpers.forked import run_ranks


def test_the_loss_scale_is_that_of_the_optimizer_wrapper():
    scaler = SimpleNamespace(get_scale=lambda: 512.0)
    assert loss_scale(SimpleNamespace(optim_wrapper=SimpleNamespace(loss_scaler=scaler))) == 512.0
    assert loss_scale(SimpleNamespace(optim_wrapper=SimpleNamespace())) == 1.0
    assert loss_scale(SimpleNamespace()) == 1.0


def test_of_one_process_the_condition_is_its_own():
    assert on_every_rank(True, {}) is True
    assert on_every_rank(False, {}) is False


def test_one_rank_is_enough_to_say_no(tmp_path):
    logs = run_ranks(_on_a_rank, str(tmp_path / 'store'), folder=tmp_path)
    found = [line for log in logs for line in log.splitlines() if line.startswith('met')]
    assert found == ['met True False'] * 2


def _on_a_rank(rank, store):
    import torch.distributed as dist

    dist.init_process_group('gloo', init_method=f'file://{store}', rank=rank, world_size=2)
    losses = {'loss': [torch.zeros(())]}
    print('met', on_every_rank(True, losses), on_every_rank(rank == 0, losses))
    dist.destroy_process_group()
