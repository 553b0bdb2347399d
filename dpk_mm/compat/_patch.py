"""The record that every patch of an upstream defect fills in."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Patch:
    """One upstream defect and what is done about it.

    Attributes:
        name: Short name, as ``dpk_mm.compat.apply`` returns it.
        symptom: What happens without the patch.
        threads: Public issues or pull requests, as ``owner/repository#number``.
        obsolete_when: The condition under which the patch can be deleted.
        needed: Checks, at little cost, whether the symptom is present in this environment.
        apply: Removes the symptom. Called once, and only where ``needed()`` is true.
    """

    name: str
    symptom: str
    threads: tuple[str, ...]
    obsolete_when: str
    needed: Callable[[], bool]
    apply: Callable[[], None]


def is_installed(package: str) -> bool:
    """Whether a top-level package can be imported; nothing is imported to find out."""
    return importlib.util.find_spec(package) is not None
