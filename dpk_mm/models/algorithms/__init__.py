"""Algorithms."""

from .dpk_distill import DPKDistill

__all__ = ['DPKDistill']
