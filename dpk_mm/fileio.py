"""Writing small files so that a reader never sees half of one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_text_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Writes `text` to `path`; a process stopped meanwhile leaves the old file or the new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        temporary.write_text(text, encoding='utf-8')
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json_atomically(path: str | os.PathLike[str], content: Any) -> None:
    """Writes `content` as JSON to `path`, whole or not at all."""
    write_text_atomically(path, json.dumps(content, indent=1) + '\n')
