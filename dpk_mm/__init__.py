"""dpk_mm: Dynamic Prior Knowledge distillation for OpenMMLab.

Importing it repairs what the released OpenMMLab packages lack on today's PyTorch (:mod:`dpk_mm.compat`) and
registers everything a config can name. Where mmengine is not installed at all, only the parts that need torch alone are
there: :mod:`dpk_mm.functional` and :mod:`dpk_mm.modules`.
"""

from importlib.util import find_spec as _find_spec
from typing import Any as _Any

from . import _moved
from .version import __version__

_moved.install()

if _find_spec('mmengine') is not None:
    from . import compat

    compat.apply()

    from . import engine as engine
    from . import models as models


def __getattr__(name: str) -> _Any:
    """``complete`` turns a config of the short form into an ordinary one; it is imported when it is asked for."""
    if name == 'complete' and _find_spec('mmengine') is not None:
        from .models.pairing import complete

        return complete
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


__all__ = ['__version__']
