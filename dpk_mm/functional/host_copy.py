"""Copies of small tensors to the host that do not make the host wait at once."""

from __future__ import annotations

import torch
from torch import Tensor


class HostCopy:
    """Copies a small tensor to the host asynchronously.

    On CUDA the copy is queued behind the work that is queued already, into pinned memory; :meth:`get` waits for this
    copy, but not for what was queued after it. On the CPU it is a clone.

    Args:
        tensor: Of any shape; its gradient is not followed.
    """

    def __init__(self, tensor: Tensor) -> None:
        tensor = tensor.detach()
        self._event: torch.cuda.Event | None = None
        if not tensor.is_cuda:
            self._host = tensor.clone()
            return
        self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._host.copy_(tensor, non_blocking=True)
        self._event = torch.cuda.Event()
        self._event.record(torch.cuda.current_stream(tensor.device))

    def get(self) -> Tensor:
        """Waits for the copy and returns it, a tensor on the CPU."""
        if self._event is not None:
            self._event.synchronize()
            self._event = None
        return self._host
