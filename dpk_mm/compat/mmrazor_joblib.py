"""mmrazor imports joblib and does not declare it: ``pip install mmrazor`` alone does not work."""

from __future__ import annotations

from ._patch import Patch, is_installed


def needed() -> bool:
    """Whether mmrazor is installed without joblib."""
    return is_installed('mmrazor') and not is_installed('joblib')


def apply() -> None:
    """Raises the error that names joblib.

    Raises:
        ModuleNotFoundError: Always.
    """
    raise ModuleNotFoundError(
        'mmrazor needs joblib, which it does not declare as a dependency and which is not '
        "installed: run 'pip install joblib'.",
        name='joblib',
    )


PATCH = Patch(
    name='mmrazor_joblib',
    symptom="import mmrazor.models: No module named 'joblib'",
    threads=(),
    obsolete_when='mmrazor declares joblib or imports it only where it is used',
    needed=needed,
    apply=apply,
)
