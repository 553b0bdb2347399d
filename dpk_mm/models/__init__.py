"""What registers in mmrazor's MODELS."""

from .algorithms import DPKDistill
from .backbones import *  # noqa: F403
from .distillers import DPKDistiller
from .losses import DPKLoss, FGDLoss, KDLoss
from .recorders import *  # noqa: F403
from .teacher.stored_teacher import StoredTeacher

__all__ = ['DPKDistill', 'DPKDistiller', 'DPKLoss', 'FGDLoss', 'KDLoss', 'StoredTeacher']
