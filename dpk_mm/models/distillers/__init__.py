"""Distillers."""

from .dpk_distiller import DPKDistiller

__all__ = ['DPKDistiller']
