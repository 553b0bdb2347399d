"""Says in one sentence what an error means for the config, with the key that is to be changed.

The registries of mmengine and the constructors that they call know nothing of the config as a
whole: `KeyError: 'ResNett is not in the mmdet::model registry ...'` at the end of a traceback does
not say where ResNett stands. A failed run is looked at here, and only a failed one: a config that
works is never judged.
"""

from __future__ import annotations

import difflib
import errno
import inspect
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry, root
from torch import nn

from dpk_mm.compat.checkpoint import load_checkpoint_file
from dpk_mm.errors import CheckpointError, UsageError

_ARGUMENT = re.compile(r"(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'")
_MISSING = re.compile(r'(\w+)(?:\.__init__)?\(\) missing \d+ required [\w-]+ arguments?: (.+)')
_TYPE = re.compile(r'(\S+) is not in the (\S+)::(.+?) registry')
_NO_FILE = re.compile(r"No such file or directory: '(.+)'")
_NO_DATA = re.compile(r'Cannot find (\w+) dataset in (.+?), you can specify `download')
_CHANNELS = re.compile(r'expected input\[[\d, ]+\] to have (\d+) channels, but got (\d+) channels')
_RECORDER = re.compile(r'"(\S+)" is not in the model')

Located = tuple[str, dict]


@contextmanager
def explained_errors(cfg: Config) -> Iterator[dict[str, Any]]:
    """Turns errors that the config explains into a UsageError of one sentence.

    Args:
        cfg: The config that the block builds and runs.

    Yields:
        A dict; the Runner, put there as `runner`, helps to explain.

    Raises:
        UsageError: For what :func:`explain` has a sentence for. Everything else passes unchanged.
    """
    context: dict[str, Any] = {}
    try:
        yield context
    except Exception as error:
        sentence = explain(error, cfg, context.get('runner'))
        if sentence is None:
            raise
        raise UsageError(sentence) from error


def explain(error: Exception, cfg: Config, runner: Any = None) -> str | None:
    """What an error of building or training means for the config.

    Args:
        error: As it was raised.
        cfg: The config.
        runner: The Runner, if it could be built.

    Returns:
        One sentence, or None if the error is not one of the config.
    """
    text = _last_line(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return str(error) if not error.filename else f'{error.filename}: {error.strerror}'
    if isinstance(error, UsageError):
        return _swapped(text, cfg, runner)
    if isinstance(error, CheckpointError):
        return None
    if match := _TYPE.search(text):
        return _unknown_type(match[1].strip('\'"'), match[2], match[3], cfg)
    if match := _ARGUMENT.search(text):
        return _unknown_argument(match[1], match[2], cfg)
    if match := _MISSING.search(text):
        return _missing_arguments(match[1], match[2], cfg)
    if match := _NO_FILE.search(text):
        return _missing_file(match[1], cfg)
    if match := _NO_DATA.search(text):
        return _missing_data(match[1], match[2].rstrip('/'), cfg)
    if match := _RECORDER.search(text):
        return _no_such_module(match[1], error, cfg)
    if _raised_in(error.__traceback__) == 'dpk_mm' and isinstance(error, (ValueError, TypeError)):
        return text
    if _raised_in(error.__traceback__) == 'mmrazor' and isinstance(error, AssertionError) and text:
        return _value_of_distiller(' '.join(text.split()), cfg)
    if (match := _CHANNELS.search(text)) and not _trained(runner):
        return _wrong_channels(match[1], match[2], error, runner)
    if _trained(runner):
        return None
    return _any_unknown_type(cfg)


# What the errors are about.


def _unknown_type(name: str, scope: str, kind: str, cfg: Config) -> str:
    bare = name.rpartition('.')[2]
    places = [path for path, node in _dicts(cfg) if str(node.get('type')) == name]
    where = f'{_some(path + ".type" for path in places)}: ' if places else ''
    known = _names(kind)
    near = [n for n, scopes in known.items() if scope in scopes or 'mmengine' in scopes]
    close = [bare] if bare in known else []
    close = close or difflib.get_close_matches(bare, near, n=1, cutoff=0.6)
    close = close or difflib.get_close_matches(bare, known, n=1, cutoff=0.6)
    if close:
        meant = f'did you mean {_owner(close[0], known[close[0]], scope)}?'
    else:
        meant = f'and none of the {len(known)} known ones is named like it; is its module among '
        meant += 'custom_imports?'
        return f'{where}there is no {kind} {name}, {meant}'
    return f'{where}there is no {kind} {name}; {meant}'


def _unknown_argument(owner: str, argument: str, cfg: Config) -> str:
    places = _places(owner, cfg, argument)
    where = f'{_some(f"{path}.{argument}" for path in places)}: ' if places else ''
    known = _arguments(owner, [node for _, node in _dicts(cfg)])
    sentence = f'{where}{owner} has no argument {argument}'
    close = difflib.get_close_matches(argument, known, n=1, cutoff=0.6)
    if close:
        return f'{sentence}; did you mean {close[0]}?'
    return f'{sentence}; it has {", ".join(known)}' if known else sentence


def _missing_arguments(owner: str, arguments: str, cfg: Config) -> str:
    places = [path for path, node in _dicts(cfg) if _is_type(node, owner)]
    where = f'{_some(places)}: ' if places else ''
    return f'{where}{owner} needs {arguments.replace(chr(39), "")}, which the config does not give'


def _missing_file(path: str, cfg: Config) -> str:
    keys = []
    for place, node in _dicts(cfg):
        if not place:
            continue  # variables at the top, from which the config was made
        base = str(node.get('data_root') or '')
        parts = {key: value for key, value in node.items() if isinstance(value, str)}
        prefix = node.get('data_prefix')
        if isinstance(prefix, dict):
            parts |= {f'data_prefix.{k}': v for k, v in prefix.items() if isinstance(v, str)}
        for key, value in parts.items():
            if key == 'data_root' or not value:
                continue
            whole = os.path.join(base, value)
            if path == whole or path.startswith(whole.rstrip('/') + '/'):
                with_root = f' (in {place}.data_root, {base})' if base and whole != value else ''
                keys.append(f'{place}.{key} = {value}{with_root}')
        if not keys and base and path.startswith(base):
            keys.append(f'{place}.data_root = {base}')
    # the same data set often stands under several keys, and the shortest says most
    where = f'{min(keys, key=len)}: ' if keys else ''
    parent = os.path.dirname(path)
    depth = 'but its folder is' if os.path.isdir(parent) else f'and neither is the folder {parent}'
    return f'{where}{path} is not there, {depth}; set the path to where the data are'


def _missing_data(name: str, folder: str, cfg: Config) -> str:
    places = [
        path
        for path, node in _dicts(cfg)
        if _is_type(node, name) and str(node.get('data_root', '')).rstrip('/') == folder
    ]
    # a pipeline of loaders repeats it, and what they wrap does, too
    keys = [f'{place}.data_root' for place in places if '_dataloader' in place]
    where = f'{_some(keys)} = {folder}: ' if keys else ''
    return (
        f'{where}the files of {name} are not there; unpack them there, set data_root to where they are, or let '
        'mmpretrain fetch them with download=True beside it'
    )


def _no_such_module(name: str, error: Exception, cfg: Config) -> str:
    places = [
        f'{path}.{key}' for path, node in _dicts(cfg) for key in node if node.get(key) == name
    ]
    where = f'{_some(places)}: ' if places else ''
    model = _local(error.__traceback__, 'model')
    names = [n for n, _ in model.named_modules() if n] if isinstance(model, nn.Module) else []
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    top = ', '.join(n for n in names if '.' not in n)
    meant = f'did you mean {close[0]}?' if close else f'its parts are {top}'
    return f'{where}the model has no module {name}; {meant}'


def _value_of_distiller(text: str, cfg: Config) -> str:
    """A sentence of mmrazor's about a name in quotation marks, with the keys that hold it."""
    quoted = re.findall(r'"(.+?)"', text)
    places = [
        f'{path}.{key}'
        for path, node in _dicts(cfg)
        for key in node
        if path.startswith('model.distiller') and node[key] in quoted
    ]
    return f'{_some(places or ["model.distiller"])}: {text}'


def _wrong_channels(wanted: str, found: str, error: Exception, runner: Any) -> str | None:
    model = getattr(runner, 'model', None)
    if not isinstance(model, nn.Module):
        return None
    names = {id(module): name for name, module in model.named_modules() if name}
    teacher = getattr(model, 'teacher', None)
    if isinstance(teacher, nn.Module):
        names |= {id(module): f'teacher.{name}' for name, module in teacher.named_modules()}
    inner = [names.get(id(frame.f_locals.get('self'))) for frame in _frames(error.__traceback__)]
    path = next((name for name in reversed(inner) if name), None)
    if path is None:
        return None
    return (
        f'model.{path} is built for {wanted} channels, but gets {found}: its in_channels in the '
        'config and the out_channels of what comes before it differ'
    )


def _swapped(text: str, cfg: Config, runner: Any) -> str | None:
    """Adds to "does not fit the teacher" that the file fits the student, if it does."""
    student = getattr(getattr(runner, 'model', None), 'architecture', None)
    path = (cfg.get('model') or {}).get('teacher_ckpt')
    if 'does not fit the teacher' not in text or student is None or not path:
        return None
    try:
        found = load_checkpoint_file(path)
    except (CheckpointError, OSError):
        return None
    found = found.get('state_dict', found)
    shapes = {k: v.shape for k, v in student.state_dict().items()}
    if any(getattr(found.get(name), 'shape', None) != shape for name, shape in shapes.items()):
        return None
    return (
        f'{text.rstrip(".")}; it does fit the student, model.architecture, so this is a checkpoint of '
        'the student, or the two are swapped in the config'
    )


def _any_unknown_type(cfg: Config) -> str | None:
    """A type that no registry knows, where the error itself does not tell (optimizers)."""
    known = {name for kind in _registries() for name in _names(kind)}
    for path, node in _dicts(cfg):
        name = node.get('type')
        if path.startswith('optim_wrapper') and isinstance(name, str):
            bare = name.rpartition('.')[2]
            if bare not in known:
                close = difflib.get_close_matches(bare, _names('optimizer'), n=1, cutoff=0.5)
                meant = f'; did you mean {close[0]}?' if close else ''
                return f'{path}.type: there is no optimizer {name}{meant}'
    return None


# The config.


def _dicts(node: Any, path: str = '') -> Iterator[Located]:
    """Every dict of a config with its dotted key, outer ones first."""
    if isinstance(node, Config):
        node = node._cfg_dict.to_dict()
    if isinstance(node, dict):
        yield path, node
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(node, dict):
        items = node.items()
    elif isinstance(node, (list, tuple)):
        items = enumerate(node)
    for key, value in items:
        if isinstance(value, (dict, list, tuple)):
            yield from _dicts(value, f'{path}.{key}' if path else str(key))


def _places(owner: str, cfg: Config, argument: str) -> list[str]:
    """Keys of the dicts that hold an argument: those of that very type if there are any."""
    holding = [(path, node) for path, node in _dicts(cfg) if argument in node and path]
    exact = [path for path, node in holding if _is_type(node, owner)]
    return exact or [path for path, _ in holding]


def _is_type(node: dict, name: str) -> bool:
    kind = node.get('type')
    kind = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
    return kind.rpartition('.')[2] == name


# The registries.


def _registries() -> dict[str, Registry]:
    return {r.name: r for r in vars(root).values() if isinstance(r, Registry)}


def _names(kind: str) -> dict[str, list[str]]:
    """Name -> scopes that register it, of one kind ('model', 'hook', ...) in all packages."""
    names: dict[str, list[str]] = {}
    waiting = [_registries()[kind]] if kind in _registries() else []
    while waiting:
        registry = waiting.pop(0)
        waiting += registry.children.values()
        for name in registry.module_dict:
            names.setdefault(name, []).append(registry.scope)
    return names


def _owner(name: str, scopes: list[str], scope: str) -> str:
    """The name as that scope has to write it."""
    return name if scope in scopes or 'mmengine' in scopes else f'{scopes[0]}.{name}'


def _arguments(owner: str, nodes: list[dict]) -> list[str]:
    """The arguments of a class, with those that its bases take over."""
    for registry in _registries().values():
        for name in _names(registry.name):
            found = _find(registry, name)
            if inspect.isclass(found) and found.__name__ == owner:
                return _signature(found)
    from dpk_mm import modules

    found = getattr(modules, owner, None)
    return _signature(found) if inspect.isclass(found) else []


def _find(registry: Registry, name: str) -> Any:
    waiting = [registry]
    while waiting:
        one = waiting.pop(0)
        if name in one.module_dict:
            return one.module_dict[name]
        waiting += one.children.values()
    return None


def _signature(kind: type) -> list[str]:
    names: dict[str, None] = {}
    for base in kind.__mro__:
        if '__init__' not in vars(base) or base in (object, nn.Module):
            continue
        parameters = list(inspect.signature(vars(base)['__init__']).parameters.values())[1:]
        names |= {
            p.name: None for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        }
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return list(names)


# The error.


def _last_line(error: Exception) -> str:
    """The message; of an error from a data worker, whose message is a traceback, its last line."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if 'in DataLoader worker process' in text:
        text = text.strip().splitlines()[-1].partition(': ')[2]
    return text


def _frames(traceback: TracebackType | None) -> list[Any]:
    frames = []
    while traceback is not None:
        frames.append(traceback.tb_frame)
        traceback = traceback.tb_next
    return frames


def _raised_in(traceback: TracebackType | None) -> str:
    """The package of the code that raised."""
    frames = _frames(traceback)
    return frames[-1].f_globals.get('__name__', '').split('.')[0] if frames else ''


def _local(traceback: TracebackType | None, name: str) -> Any:
    """A variable of the code that raised."""
    frames = _frames(traceback)
    return frames[-1].f_locals.get(name) if frames else None


def _trained(runner: Any) -> bool:
    """Whether a step was made; an error after it is not one of the config."""
    loop = getattr(runner, '_train_loop', None)
    return bool(getattr(loop, '_iter', 0))


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return names[0] if len(names) == 1 else f'{names[0]} (and {len(names) - 1} more)'
