"""Data sets around other data sets."""

from .replay_dataset import ReplayDataset

__all__ = ['ReplayDataset']
