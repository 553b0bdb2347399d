"""Every pair of the zoos runs at the first try: training, validation, export, a strict load, and resuming."""

import math

import pytest
import torch

from tests.helpers.configs import quick_reading
from tools.experiments.zoo_pairs import PAIRS, draw, export_and_load, load, resume, train

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    folders = {}

    def by_side(side):
        if side not in folders:
            folders[side] = draw(tmp_path_factory.mktemp(f'drawn{side}'), side)
        return folders[side]

    return by_side


@pytest.mark.parametrize('name', PAIRS)
def test_pair(name, drawn, tmp_path):
    pair = PAIRS[name]
    if 'timm' in name:
        pytest.importorskip('timm')
    with quick_reading():
        cfg = load(pair, drawn(pair.side), tmp_path)
        runner = train(cfg)
        scalars = runner.message_hub.log_scalars
        losses = {key: value.current() for key, value in scalars.items() if '.loss_' in key}
        assert any(key.startswith('train/distill.') for key in losses)
        assert all(math.isfinite(value) for value in losses.values())
        wanted = {hook['type'] for hook in cfg.get('custom_hooks') or []}
        assert wanted <= {type(hook).__name__ for hook in runner.hooks}
        checkpoint = tmp_path / 'run/epoch_2.pth'
        plain = export_and_load(runner.cfg, checkpoint, tmp_path / 'student.pth')
        resumed = resume(cfg, tmp_path / 'run/epoch_1.pth', tmp_path / 'again')
    expected, found = runner.model.state_dict(), resumed.model.state_dict()
    # a resumed run begins with an empty cache of images, which mmdet keeps in the pipeline and in no checkpoint
    if 'CachedMosaic' not in str(cfg.train_dataloader):
        assert [key for key in expected if not torch.equal(expected[key], found[key])] == []
    if not any(hook['type'] == 'EMAHook' for hook in cfg.get('custom_hooks') or []):
        for key, value in plain.state_dict().items():
            assert torch.equal(value, expected[f'architecture.{key}']), key
