"""Names of losses in the log."""

from __future__ import annotations

import re


def monitor_name(name: str) -> str:
    """The name of a loss without the word "loss", since what mmengine logs with that word counts as a loss."""
    return re.sub(r'_?loss_?', '', name).strip('.')
