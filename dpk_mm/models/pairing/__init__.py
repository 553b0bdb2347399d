"""The short form of a config: two networks and the name of a method, completed by one look at both networks."""

from .complete import SHORT_KEYS, Completed, complete, is_short
from .rows import CHOSEN_FILE, Row, table

__all__ = ['CHOSEN_FILE', 'SHORT_KEYS', 'Completed', 'Row', 'complete', 'is_short', 'table']
