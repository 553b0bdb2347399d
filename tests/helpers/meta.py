"""Networks of the published sizes, without their memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from torch import nn


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Parameters have shapes without memory or initialisation; buffers are real."""
    register = nn.Module.register_parameter

    def register_on_meta(self, name, param):
        register(self, name, param)
        if param is not None:
            self._parameters[name] = nn.Parameter(param.to('meta'), param.requires_grad)

    with mock.patch.object(nn.Module, 'register_parameter', register_on_meta):
        yield
