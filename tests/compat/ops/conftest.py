"""Shared by the tests of the ops: devices, and a table of the deviations from the references.

``pytest -v tests/compat/ops`` prints the table.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dpk_mm import compat

compat.apply()  # before the test modules import mmcv.ops

_ERRORS = pytest.StashKey[dict[tuple[str, str, str], tuple[float, float]]]()

Check = Callable[..., None]


@pytest.fixture(params=['cpu', 'cuda'])
def device(request: pytest.FixtureRequest) -> str:
    if request.param == 'cuda' and not torch.cuda.is_available():
        pytest.skip('no CUDA device')
    return request.param


@pytest.fixture
def check(request: pytest.FixtureRequest) -> Check:
    """``check(name, actual, expected, atol)`` asserts and enters the deviation into the table."""
    errors = request.config.stash.setdefault(_ERRORS, {})

    def check(name: str, actual: Tensor, expected: Tensor, atol: float) -> None:
        assert actual.shape == expected.shape
        difference = (actual.detach().cpu().double() - expected.detach().cpu().double()).abs()
        error = difference.max().item() if difference.numel() else 0.0
        dtype = str(actual.dtype).removeprefix('torch.')
        key = (name, dtype, actual.device.type)
        largest, magnitude = errors.get(key, (0.0, 0.0))
        scale = expected.detach().abs().max().item() if expected.numel() else 0.0
        errors[key] = (max(largest, error), max(magnitude, scale))
        assert error <= atol, f'{name}: deviates by {error:.3g}, at most {atol:.3g} allowed'

    return check


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    config = terminalreporter.config
    errors = config.stash.get(_ERRORS, {})
    if not errors or config.get_verbosity() < 1:
        return
    terminalreporter.section('deviation of the ops from slow references')
    row = '{:<34}{:<10}{:<6}{:>14}{:>16}'
    terminalreporter.write_line(row.format('op', 'dtype', 'on', 'max error', 'max magnitude'))
    for (name, dtype, on), (error, magnitude) in sorted(errors.items()):
        terminalreporter.write_line(row.format(name, dtype, on, f'{error:.2e}', f'{magnitude:.3g}'))
