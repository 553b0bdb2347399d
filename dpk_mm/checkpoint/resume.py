"""Which checkpoint a run is resumed from: the newest one that can be read."""

from __future__ import annotations

import os
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

from mmengine.config import Config

from dpk_mm.compat.atomic_checkpoints import numbered_checkpoints
from dpk_mm.compat.checkpoint import load_checkpoint_file
from dpk_mm.errors import CheckpointError, DamagedCheckpointError, UsageError, without_period
from dpk_mm.fileio import remove_leftovers

LAST_FILE = 'last_checkpoint'  # where mmengine's CheckpointHook writes the name of the newest
_NEEDED = ('meta', 'state_dict', 'optimizer', 'message_hub')


def read_training_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a checkpoint to resume from, and checks all of it.

    Args:
        path: A local file, or a URL.

    Returns:
        The checkpoint, on the CPU.

    Raises:
        FileNotFoundError: If the file does not exist.
        DamagedCheckpointError: If it is truncated or any of its bytes changed: torch itself does
            not check the checksums that it writes.
        CheckpointError: If it is refused, or it holds weights only.
    """
    path = os.fspath(path)
    if os.path.isfile(path) and zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError):
            damaged = path
        if damaged is not None:
            raise DamagedCheckpointError(f'{path} is truncated or corrupt.')
    checkpoint = load_checkpoint_file(path)
    missing = [key for key in _NEEDED if key not in checkpoint]
    if missing:
        raise CheckpointError(
            f'{path} cannot be resumed from, because it has no {missing[0]}: a checkpoint that the '
            'training wrote, such as epoch_1.pth, was expected; to start from weights alone, set '
            'load_from in the config.'
        )
    return checkpoint


def is_first_rank() -> bool:
    """Whether this process is the one that speaks, as told before the process group is made."""
    return int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0'))) == 0


def has_checkpoint(work_dir: str | os.PathLike[str]) -> bool:
    """Whether a training left something in a folder to go on from, be it damaged or gone since."""
    folder = Path(work_dir)
    return bool(numbered_checkpoints(folder)) or _named_last(folder) is not None


def prepare_resume(cfg: Config) -> str | None:
    """Sets in a config which checkpoint it is resumed from; does nothing without ``cfg.resume``.

    With a file given (``cfg.load_from``), that file has to be intact. Without one, the newest
    checkpoint of the work folder is taken; if that cannot be read, the newest before it that can,
    with a warning. The seed of the checkpoint becomes that of the run, since data loaders are built
    before mmengine reads it. Temporary files of a killed run are removed.

    Args:
        cfg: The config, with ``work_dir`` set; changed in place.

    Returns:
        The checkpoint, or None if the run starts anew because there is none.

    Raises:
        UsageError: If the given file, or every checkpoint of the folder, cannot be read.
        FileNotFoundError: If the given file does not exist.
    """
    first_rank = is_first_rank()
    if first_rank:
        remove_leftovers(cfg.work_dir)
    if not cfg.get('resume'):
        return None
    if cfg.get('load_from') is not None:
        path, state = cfg.load_from, _read_given(cfg.load_from, cfg.work_dir)
    else:
        hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
        elsewhere = hook.get('out_dir') is not None
        found = _read_newest(Path(cfg.work_dir), warn=first_rank, elsewhere=elsewhere)
        if found is None:
            cfg.resume = False  # else hooks would take the new start for a resumed one
            return None
        path, state = found
        cfg.load_from = path
    _take_seed(cfg, state, path, warn=first_rank)
    return path


def _read_given(path: str, work_dir: str) -> dict[str, Any]:
    try:
        return read_training_state(path)
    except CheckpointError as error:
        folder = Path(path).parent if Path(path).is_file() else Path(work_dir)
        for other in numbered_checkpoints(folder):
            if other != Path(path) and _readable(other):
                raise UsageError(
                    f'--resume: {without_period(error)}; the newest good one is {other}.'
                ) from None
        raise UsageError(
            f'--resume: {without_period(error)}; there is no good one in {folder}.'
        ) from None


def _read_newest(
    work_dir: Path, warn: bool, elsewhere: bool = False
) -> tuple[str, dict[str, Any]] | None:
    """The newest checkpoint that can be read, with its content; None if there is none at all."""
    named = _named_last(work_dir, elsewhere)
    candidates = numbered_checkpoints(work_dir if named is None else named.parent)
    if named is not None:
        if not candidates and not named.is_file():
            candidates = numbered_checkpoints(work_dir)  # what else was copied
        # Files of higher numbers are not of this run, or were being written when it ended.
        if named in candidates:
            candidates = candidates[candidates.index(named) :]
        elif named.is_file():
            candidates = [named, *candidates]
    if not candidates:
        if named is not None:
            raise UsageError(
                f'--resume: {work_dir / LAST_FILE} names {named}, which does not exist, and there is no '
                'other checkpoint: name one with --resume FILE, or leave the option out to start anew.'
            )
        return None
    trouble: list[str] = []
    for path in candidates:
        try:
            state = read_training_state(path)
        except (CheckpointError, OSError) as error:
            trouble.append(without_period(error))
            continue
        if trouble and warn:
            print(f'warning: {"; ".join(trouble)}; resuming from {path}.', file=sys.stderr)
        return str(path), state
    raise UsageError(
        f'--resume: none of the {len(trouble)} checkpoints in {candidates[0].parent} can be read '
        f'(of the newest: {trouble[0]}): leave the option out to start anew, with another --work-dir '
        'if the files are to be kept.'
    )


def _named_last(work_dir: Path, elsewhere: bool = False) -> Path | None:
    """The file that the last training names; ``elsewhere``: its checkpoint hook has a folder of its own."""
    try:
        name = (work_dir / LAST_FILE).read_text(encoding='utf-8').strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    if not name:
        return None
    path = Path(name)
    # A work folder that was moved or copied names the old place, which may be there still.
    own = work_dir / path.name
    return own if own.exists() and not elsewhere else path


def _readable(path: Path) -> bool:
    try:
        read_training_state(path)
    except (CheckpointError, OSError):
        return False
    return True


def _take_seed(cfg: Config, state: dict[str, Any], path: str, warn: bool) -> None:
    seed = state['meta'].get('seed')
    randomness = cfg.get('randomness') or {}
    if seed is None or randomness.get('seed') == seed:
        return
    if randomness.get('seed') is not None and warn:
        print(
            f'warning: {path} was trained with seed {seed}, which the resumed run uses, and not '
            f'randomness.seed={randomness["seed"]} of the config.',
            file=sys.stderr,
        )
    cfg.randomness = dict(randomness, seed=seed)
