"""Mixed precision without a GPU, which mmengine's ``AmpOptimWrapper`` refuses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmrazor.registry import OPTIM_WRAPPERS
from torch import nn


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """Runs the model in bfloat16 where autocast deems it safe; gradients need no scaling there.

    What ``tools/train.py --amp bf16`` sets on a machine without a GPU. It shows that a model trains
    in bfloat16; faster than float32 it is only on CPUs with such instructions.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocasts the forward pass, within what the base class does for accumulation."""
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16):
            yield
