"""What `import dpk_mm` costs beyond importing mmdet and mmrazor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dpk_mm

from .rows import Row, rows_of
from .timing import interleave

# mmrazor 1.0.0 cannot be imported on torch 2 without our repairs, so the other side applies them,
# too, and leaves out the rest of this package.
_WITHOUT_US = f"""
import sys, types
package = types.ModuleType('dpk_mm')
package.__path__ = [{str(Path(dpk_mm.__file__).parent)!r}]
sys.modules['dpk_mm'] = package
from dpk_mm import compat
compat.apply()
import mmdet, mmrazor, mmrazor.models, mmrazor.engine
"""


def imports(rounds: int) -> list[Row]:
    """Times both in fresh processes that take turns."""

    def run(code: str) -> None:
        subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True)

    cases = {
        'import mmdet and mmrazor': lambda: run(_WITHOUT_US),
        'import dpk_mm': lambda: run('import dpk_mm'),
    }
    timings = interleave(cases, rounds, warmup=1, wall=True)
    return rows_of('imports', timings, targets={'import dpk_mm': '<= 1.1'})
