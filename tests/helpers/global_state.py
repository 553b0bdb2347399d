"""The state of the process that one test could leave to the next."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import torch
import torch.distributed as dist
from mmengine.dist import utils as mmengine_dist
from mmengine.logging import MMLogger
from mmengine.utils import ManagerMixin

# what is read and written by one call each
SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (os.getcwd, os.chdir),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_num_threads, torch.set_num_threads),
    (cv2.getNumThreads, cv2.setNumThreads),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    (
        lambda: multiprocessing.get_start_method(allow_none=True),
        lambda method: multiprocessing.set_start_method(method, force=True),
    ),
    (lambda: signal.getsignal(signal.SIGTERM), lambda x: signal.signal(signal.SIGTERM, x)),
    (lambda: signal.getsignal(signal.SIGINT), lambda x: signal.signal(signal.SIGINT, x)),
)
ATTRIBUTES = (
    (torch.backends.cudnn, 'benchmark'),
    (torch.backends.cudnn, 'deterministic'),
    (sys, 'excepthook'),
)
# pytest's own, which it changes during a test
KEPT_VARIABLES = ('PYTEST_CURRENT_TEST',)


def seed_all(seed: int) -> None:
    """Seeds the generators of Python, NumPy and PyTorch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextmanager
def restored_globals(*, fresh: bool) -> Iterator[None]:
    """Puts back on leaving what the block changed of the process.

    That is the current instances of mmengine (default scope, message hub, logger, visualizer), the
    process group, the environment, the folder, the command line, and the settings of PyTorch.
    The generators of random numbers are seeded by whoever runs the test.

    With ``fresh``, the block starts without any instance of mmengine, as a new process does.
    """
    managers = {cls: cls._instance_dict for cls in _subclasses(ManagerMixin)}
    settings = [(get, set_, get()) for get, set_ in SETTINGS]
    attributes = [(owner, name, getattr(owner, name)) for owner, name in ATTRIBUTES]
    lists = [(held, list(held)) for held in (sys.argv, sys.path)]
    environment = dict(os.environ)
    had_group = dist.is_initialized()
    for cls, instances in managers.items():
        cls._instance_dict = OrderedDict() if fresh else OrderedDict(instances)
    try:
        yield
    finally:
        if dist.is_initialized() and not had_group:
            dist.destroy_process_group()
            mmengine_dist._LOCAL_PROCESS_GROUP = None
        _close_log_files(managers.get(MMLogger, {}))
        for cls in _subclasses(ManagerMixin):
            cls._instance_dict = managers.get(cls, OrderedDict())
        _restore_environment(environment)
        for held, items in lists:
            held[:] = items
        for owner, name, value in attributes:
            setattr(owner, name, value)
        for get, set_, value in settings:
            if get() != value:
                set_(value)


def _subclasses(cls: type) -> Iterator[type]:
    yield cls
    for child in cls.__subclasses__():
        yield from _subclasses(child)


def _close_log_files(kept: dict[str, MMLogger]) -> None:
    """Closes the files of the loggers that go."""
    for name, logger in MMLogger._instance_dict.items():
        if kept.get(name) is not logger:
            for handler in logger.handlers:
                handler.close()


def _restore_environment(before: dict[str, str]) -> None:
    for name in set(os.environ) | set(before):
        if name in KEPT_VARIABLES or os.environ.get(name) == before.get(name):
            continue
        if name in before:
            os.environ[name] = before[name]
        else:
            del os.environ[name]
