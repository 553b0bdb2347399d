"""What a method gives."""

from __future__ import annotations

from typing import Any

Losses = dict[str, dict[str, Any]]
"""``distill_losses`` of a distiller: name -> config of a loss."""
