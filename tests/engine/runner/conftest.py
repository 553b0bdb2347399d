"""The device that the options are fitted to, whatever this machine has."""

import pytest

from dpk_mm.engine.runner import build, prepare


@pytest.fixture
def gpu(monkeypatch):
    for module in (build, prepare):
        monkeypatch.setattr(module, 'get_device', lambda: 'cuda')


@pytest.fixture
def cpu(monkeypatch):
    for module in (build, prepare):
        monkeypatch.setattr(module, 'get_device', lambda: 'cpu')
