"""The short form of a config: two networks and the name of a method, completed by one look at both networks."""

from .complete import Completed, complete, is_short
from .rows import CHOSEN_FILE, Row, table

__all__ = ['CHOSEN_FILE', 'Completed', 'Row', 'complete', 'is_short', 'table']
