"""Optimizer wrappers and their constructors."""

from . import joint_optim_wrapper  # noqa: F401  registers itself
from .cpu_amp import CPUAmpOptimWrapper

__all__ = ['CPUAmpOptimWrapper']
