"""dpk_mm: Dynamic Prior Knowledge distillation for OpenMMLab.

Importing it repairs what the released OpenMMLab packages lack on today's PyTorch (:mod:`dpk_mm.compat`) and
registers everything a config can name. Where mmengine is not installed at all, only the parts that need torch alone are
there: :mod:`dpk_mm.functional` and :mod:`dpk_mm.modules`.
"""

from importlib.util import find_spec as _find_spec

from . import _moved
from .version import __version__

_moved.install()

if _find_spec('mmengine') is not None:
    from . import compat

    compat.apply()

    from . import engine as engine
    from . import models as models

__all__ = ['__version__']
