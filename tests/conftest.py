"""One thread a process, and no test sees what another one left in the process."""

import logging
import os
from collections.abc import Iterator

# before PyTorch reads them, and for every process that a test starts: several threads in each of
# several processes on a busy machine wait for each other and take many times as long
for _name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS'):
    os.environ.setdefault(_name, '1')

import pytest  # noqa: E402
from mmengine.logging import MMLogger  # noqa: E402

# mmdet cannot be imported with mmcv-lite before dpk_mm has repaired it, whatever file runs first
import dpk_mm  # noqa: E402, F401
from tests.helpers.configs import quick_reading  # noqa: E402
from tests.helpers.global_state import restored_globals, seed_all  # noqa: E402


def _seed(config: pytest.Config) -> None:
    # pytest-randomly seeds each test itself; a test that needs one seed says so in both cases
    if not config.getoption('randomly_reset_seed', False):
        seed_all(0)


@pytest.fixture(autouse=True, scope='module')
def _own_globals_of_the_module(pytestconfig):
    _seed(pytestconfig)
    with restored_globals(fresh=True):
        yield


@pytest.fixture(autouse=True)
def _own_globals(_own_globals_of_the_module, pytestconfig):
    _seed(pytestconfig)
    with restored_globals(fresh=False):
        yield


@pytest.fixture
def quick_configs():
    """For tests that read many of the repository's configs, see ``quick_reading``."""
    with quick_reading():
        yield


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Puts files with slow tests first, so that no worker is left with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker('slow')}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What ``print_log(..., 'current')`` writes: a list that grows."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)
