"""mmdet cannot be imported with mmcv-lite before dpk_mm has repaired it, whatever file runs first."""

import logging
from collections.abc import Iterator

import pytest
from mmengine.logging import MMLogger

import dpk_mm  # noqa: F401


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
