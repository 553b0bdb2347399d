"""Configs of the model zoos inside the installed mmdet and mmpretrain, by name, and their published checkpoints."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import mmengine

from ...errors import UsageError, first_few

PACKAGES = ('mmdet', 'mmpretrain')


class FoundConfig(NamedTuple):
    """A config that a name stands for.

    Attributes:
        source: What a config can inherit: ``'mmdet::retinanet/X.py'``, or the path of a file.
        file: The file itself.
        checkpoint: The published checkpoint, a URL; None if there is none or the config is no zoo's.
        trained_on: The data set of that checkpoint, such as ``'COCO'``; an empty text if it is not known.
    """

    source: str
    file: Path
    checkpoint: str | None = None
    trained_on: str = ''

    @property
    def stem(self) -> str:
        """The name without folder and ending."""
        return self.file.stem


def find_config(name: str, option: str) -> FoundConfig:
    """The config of a name.

    Args:
        name: A file; ``package::folder/config.py``; or the name of a zoo config or of a model in the zoo's metafiles,
            such as ``retinanet_r50_fpn_1x_coco``.
        option: The option it was given for, for the messages.

    Raises:
        UsageError: If there is no such config, with near names; or if two zoos have one.
    """
    if '::' not in name and Path(name).is_file():
        if Path(name).suffix != '.py':
            raise UsageError(
                f'{option} {name} is no config: the name of a Python file was expected.'
            )
        return _of_zoo(Path(name).resolve()) or FoundConfig(name, Path(name))
    package, _, rest = name.rpartition('::')
    if package and package not in PACKAGES:
        raise UsageError(
            f'{option} {name}: there is no zoo {package}; it is one of {", ".join(PACKAGES)}.'
        )
    rest = rest.removesuffix('.py')
    stem = Path(rest).name
    found = [entry for entry in _configs() if entry.stem == stem and _within(entry, package, rest)]
    found = found or [
        entry
        for model, entry in _models()
        if model == stem and _within(entry, package, entry.source)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        sources = ', '.join(entry.source for entry in found)
        raise UsageError(f'{option} {name} is the name of several configs: write {sources}.')
    near = near_names(stem, package)
    hint = f'near names are {first_few(near, most=6)}' if near else 'no name is similar'
    what = 'file nor config of the zoos' if not package else f'config of {package}'
    raise UsageError(
        f'{option} {name}: there is no such {what}; {hint} (the zoos are those of the installed mmdet and mmpretrain).'
    )


def published_checkpoint(name: str | None) -> str | None:
    """The URL of the checkpoint that a zoo publishes for a config.

    Args:
        name: ``package::folder/config.py``, with or without the ending, or the file itself.

    Returns:
        None where there is no such config in the zoos, or no checkpoint of it. Those of trackers have several, one
        for each part: that is none of the config.
    """
    if name is None:
        return None
    if '::' not in name:
        found = _of_zoo(Path(name).resolve())
    else:
        source = name.removesuffix('.py') + '.py'
        found = next((entry for entry in _configs() if entry.source == source), None)
    return found.checkpoint if found else None


def near_names(stem: str, package: str = '') -> list[str]:
    """Names of zoo configs that are similar to a text: those that begin with it first."""
    names = [entry.stem for entry in _configs() if not package or entry.source.startswith(package)]
    wanted = stem.lower()
    starting = sorted((n for n in names if n.lower().startswith(wanted)), key=len)
    similar = difflib.get_close_matches(wanted, names, n=6, cutoff=0.55)
    words = [w for w in wanted.replace('-', '_').split('_') if w]
    containing = sorted((n for n in names if all(w in n.lower() for w in words)), key=len)
    return list(dict.fromkeys([*starting, *similar, *containing]))


def _within(entry: FoundConfig, package: str, rest: str) -> bool:
    if package and not entry.source.startswith(f'{package}::'):
        return False
    if not package or Path(rest).name == rest:
        return True
    return entry.source.removesuffix('.py') == f'{package}::{rest.removesuffix(".py")}'


def _of_zoo(file: Path) -> FoundConfig | None:
    return next((entry for entry in _configs() if entry.file == file), None)


@lru_cache(maxsize=1)
def _configs() -> tuple[FoundConfig, ...]:
    """All configs of the installed zoos, bases excepted."""
    found = []
    for package, folder in _folders():
        models: dict[str, dict[str, Any]] = {}
        for model in _metafile_models(folder):
            # several checkpoints of one config: the one of its own name, else the first
            if model['Config'] not in models or model['Name'] == Path(model['Config']).stem:
                models[model['Config']] = model
        for file in sorted((folder / 'configs').rglob('*.py')):
            relative = file.relative_to(folder / 'configs').as_posix()
            if '_base_' in relative.split('/'):
                continue
            model = models.get(f'configs/{relative}', {})
            found.append(_entry(package, relative, file.resolve(), model))
    return tuple(found)


@lru_cache(maxsize=1)
def _models() -> tuple[tuple[str, FoundConfig], ...]:
    """The models of the metafiles: their own name, and the config with this model's checkpoint."""
    found = []
    for package, folder in _folders():
        for model in _metafile_models(folder):
            relative = str(model['Config']).removeprefix('configs/')
            file = folder / 'configs' / relative
            if file.is_file():
                found.append((str(model['Name']), _entry(package, relative, file.resolve(), model)))
    return tuple(found)


def _entry(package: str, relative: str, file: Path, model: dict[str, Any]) -> FoundConfig:
    results = model.get('Results') or [{}]
    result = results[0] if isinstance(results, list) else results
    weights = model.get('Weights')
    return FoundConfig(
        f'{package}::{relative}',
        file,
        weights if isinstance(weights, str) and '://' in weights else None,
        str(result.get('Dataset') or ''),
    )


def _folders() -> Iterator[tuple[str, Path]]:
    for name in PACKAGES:
        spec = find_spec(name)  # not imported: that takes seconds
        if spec is None or spec.origin is None:
            continue
        package = Path(spec.origin).parent
        folder = package / '.mim'
        # an editable installation has the repository itself around the package
        if not (folder / 'configs').is_dir():
            folder = package.parent
        if (folder / 'configs').is_dir():
            yield name, folder


def _metafile_models(folder: Path) -> list[dict[str, Any]]:
    index = folder / 'model-index.yml'
    if not index.is_file():
        return []
    models: list[dict[str, Any]] = []
    for name in mmengine.load(index).get('Import') or ():
        if (folder / name).is_file():
            content = mmengine.load(folder / name)
            listed = content.get('Models') if isinstance(content, dict) else content
            models += [m for m in listed or () if isinstance(m, dict) and m.get('Config')]
    return models
