"""The options that the tools share, and the config that results from them.

The conventions (options, work folder, order of precedence) are those of mmdet's and mmpretrain's tools.
"""

from __future__ import annotations

import argparse
import inspect
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict, DictAction
from mmengine.registry import MODELS
from mmengine.runner import Runner

from ..checkpoint.resume import is_first_rank
from ..errors import UsageError, nearest
from ..fileio import write_json_atomically
from ..models.pairing import CHOSEN_FILE, SHORT_KEYS, complete, is_short, table
from .errors import TRACEBACK
from .moved_configs import explain_missing_base

# Read by the Runner from the config, besides the arguments of its constructor.
RUNNER_KEYS = {
    *inspect.signature(Runner.__init__).parameters,
    *('activation_checkpointing', 'compile', 'custom_imports', 'efficient_conv_bn_eval'),
    *('find_unused_parameters', 'model_wrapper_cfg', 'runner_type', 'sync_bn', 'strategy'),
}
# Read by the tools.
OTHER_KEYS = {'tta_model', 'tta_pipeline'}
# What a test does not read.
TRAINING_KEYS = (
    *('train_dataloader', 'train_cfg', 'val_dataloader', 'val_cfg', 'val_evaluator'),
    *('optim_wrapper', 'param_scheduler', 'auto_scale_lr', 'load_from', 'resume'),
    *('model.teacher', 'model.teacher_ckpt', 'model.student_ckpt', 'model.distiller'),
    *('model.inherit', 'model.non_finite'),
)
_STUDENTS = 'model is a distillation, and its student has {}'


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that the training and the test tool share."""
    parser.add_argument('--work-dir', help='folder of logs and checkpoints')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='settings that replace those of the config, such as optim_wrapper.optimizer.lr=0.01 '
        'or key="[(a,b),(c,d)]" (with the quotation marks, without white space)',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument(
        '--no-pin-memory',
        action='store_true',
        help='leave the batches of the data loaders in pageable memory',
    )
    # torch.distributed.launch gives the first spelling or the second, by its version
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    parser.add_argument(
        '--traceback',
        action='store_true',
        help='show where in the code an error came from (as DPK_TRACEBACK=1 does)',
    )


def apply_common_arguments(args: argparse.Namespace) -> None:
    """Sets the environment variables that belong to the options of :func:`add_common_arguments`."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if args.traceback:
        os.environ[TRACEBACK] = '1'


def load_config(
    filename: str,
    options: Mapping[str, Any] | None = None,
    work_dir: str | None = None,
    print_choices: bool = False,
    complete_short: bool = True,
    teacher_ckpt: str | None = None,
) -> Config:
    """Reads a config and applies the options of the command line; one of the short form is completed.

    Args:
        filename: The config.
        options: Dotted keys and values of ``--cfg-options``.
        work_dir: Folder of the run; else that of the config, else ``./work_dirs/<name of the config>``.
        print_choices: Whether the first process prints what was chosen for a config of the short form, see
            :func:`dpk_mm.models.pairing.complete`, and writes it to ``chosen.json`` in the work folder.
        complete_short: Whether a config of the short form is completed; otherwise it is returned as it is written.
        teacher_ckpt: The teacher's checkpoint in place of that of a short config, which need not name one then.

    Returns:
        The config, with ``work_dir`` set.

    Raises:
        UsageError: If the file does not exist, a key of ``options`` is a typing error or one that
            nothing reads, or a short config cannot be completed.
    """
    if not Path(filename).is_file():
        raise UsageError(f'there is no config {filename}: give the path of a config, see configs/.')
    try:
        cfg = Config.fromfile(filename)
    except FileNotFoundError as error:
        raise UsageError(explain_missing_base(error) or f'{filename}: {error}.') from error
    options = {_of_student(cfg, key): value for key, value in (options or {}).items()}
    for key, value in options.items():
        _check_option(cfg, key, value)
    if options:
        cfg.merge_from_dict(options)
    rows = None
    if complete_short and is_short(cfg):
        if teacher_ckpt is not None:
            cfg.model.teacher_ckpt = teacher_ckpt
        completed = complete(cfg)
        cfg = completed.cfg
        if print_choices and is_first_rank():
            rows = completed.rows
            print(f'{filename} is of the short form; this was chosen:\n{table(rows)}')
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('./work_dirs', Path(filename).stem)
    if rows is not None:
        write_json_atomically(Path(cfg.work_dir) / CHOSEN_FILE, rows)
    return cfg


def unread_in_test(options: Mapping[str, Any]) -> list[str]:
    """The warning about keys of ``--cfg-options`` that a test does not read.

    Args:
        options: Dotted keys and values.

    Returns:
        One sentence, or an empty list.
    """
    unread = [
        key
        for key in options
        if any(key == name or key.startswith(f'{name}.') for name in TRAINING_KEYS)
    ]
    if not unread:
        return []
    return [f'--cfg-options {" ".join(unread)}: a test does not read this, it is for training.']


def _of_student(cfg: Config, dotted: str) -> str:
    """Turns ``model.X`` of a distillation into ``model.architecture.X``, where a plain model has it.

    Only if the student has ``X`` and the algorithm does not; one line on stderr says so. ``model.data_preprocessor``,
    which both may have, becomes the one that is used.

    Raises:
        UsageError: If neither of the two has ``X``: a test, which builds the student alone, would not
            notice.
    """
    parts = dotted.split('.')
    model = cfg.get('model') or {}
    student = model.get('architecture')
    if len(parts) < 2 or parts[0] != 'model' or not isinstance(student, dict):
        return dotted
    name = parts[1]
    if name == 'data_preprocessor' and name not in model and len(parts) > 2:
        # a new dict there would take the place of the one that is used, and have no mean and std
        if cfg.get(name):
            return _moved(dotted, parts[1:], 'model has none, and takes the one at the top')
        if student.get(name):
            return _moved(dotted, ['model', 'architecture', *parts[1:]], _STUDENTS.format(name))
    of_algorithm, of_student = {*model, *_arguments(model)}, {*student, *_arguments(student)}
    if is_short(cfg):
        # beside its own keys stand those of the student's config that it inherits
        own = _arguments(model) or of_algorithm
        of_algorithm = {*(of_algorithm - of_student), *own, *SHORT_KEYS, 'type', '_scope_'}
    if name in of_algorithm:
        return dotted
    if name not in of_student:
        if _arguments(model):  # else the class is not known here, and building it raises
            places = {known: f'model.{known}' for known in of_algorithm}
            places |= {k: f'model.architecture.{k}' for k in of_student if k not in of_algorithm}
            close = nearest(name, places)
            meant = f'; did you mean {".".join([places[close], *parts[2:]])}?' if close else '.'
            raise UsageError(
                f'--cfg-options {dotted}: neither the algorithm {model.get("type")} nor its student '
                f'{student.get("type")} has {name}{meant}'
            )
        return dotted
    return _moved(dotted, ['model', 'architecture', *parts[1:]], _STUDENTS.format(name))


def _moved(dotted: str, parts: Sequence[str], why: str) -> str:
    place = '.'.join(parts)
    print(f'--cfg-options {dotted} is taken as {place}: {why}.', file=sys.stderr)
    return place


def _arguments(node: Mapping[str, Any]) -> set[str]:
    """The arguments of the class that a dict names, if it is registered."""
    kind = node.get('type')
    if isinstance(kind, str):
        scope = node.get('_scope_')
        kind = MODELS.get(kind if scope is None or '.' in kind else f'{scope}.{kind}')
    if not inspect.isclass(kind):
        return set()
    names: set[str] = set()
    for base in kind.__mro__:
        if '__init__' in vars(base) and base is not object:
            parameters = inspect.signature(base.__init__).parameters.values()
            names |= {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                break
    return names - {'self'}


def _check_option(cfg: Config, dotted: str, value: Any = None) -> None:
    """Checks a key of ``--cfg-options``.

    The last part of a key, in a dict from which an object is built, is not checked: a wrong one fails then.

    Raises:
        UsageError: If the key does not exist and is similar to one that does; if it leads into a value without parts
            or past the end of a list; or if it is only a variable of the config file (``max_epochs``,
            ``train_pipeline``), since the values made from it do not change.
    """
    _check_top(cfg, dotted)
    node: Any = cfg
    parts = dotted.split('.')
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        if isinstance(node, list):
            if not part.isdigit() or int(part) >= len(node):
                count = f'the numbers 0 to {len(node) - 1} say which' if node else 'it is empty'
                raise UsageError(
                    f'--cfg-options {dotted}: {".".join(parts[:depth])} is a list of {len(node)}, of which {count}, '
                    f'but found {part}.'
                )
            node = node[int(part)]
        elif isinstance(node, (Config, ConfigDict)):
            if part not in node:
                known = [*node] if depth else {*node, *RUNNER_KEYS}
                close = nearest(part, map(str, known), cutoff=0.8)
                # A new dict often has a name like its neighbours.
                new = last and depth and ('type' in node or isinstance(value, dict))
                if close and part not in known and not new:
                    parts[depth] = close
                    raise UsageError(
                        f'--cfg-options {dotted}: the config has no {part}; did you mean '
                        f'{".".join(parts)}?'
                    )
                return
            node = node[part]
        else:
            place = '.'.join(parts[:depth])
            raise UsageError(
                f'--cfg-options {dotted}: {place} is {node!r}, which has no parts; give {place} as a whole, a dict in '
                'the config, and then change a part of it.'
            )


def _check_top(cfg: Config, dotted: str) -> None:
    name, _, rest = dotted.partition('.')
    known = {*RUNNER_KEYS, *OTHER_KEYS}
    if name in known:
        return
    imports = (cfg.get('custom_imports') or {}).get('imports') or []
    imports = [imports] if isinstance(imports, str) else imports
    if name in cfg:
        places = sorted(
            dict.fromkeys(_same(cfg, name, cfg[name])), key=lambda place: place.count('.')
        )
        places = [f'{place}.{rest}' if rest else place for place in places]
        meant = f'; set {" and ".join(places[:4])}.' if places else '.'
        sentence = (
            f'--cfg-options {dotted}: {name} is a variable of the config file, which was used when the file was read, '
            f'and nothing reads it afterwards{meant}'
        )
    else:
        if nearest(name, {*cfg, *known}, cutoff=0.8):
            return  # the walk along the key raises for it
        sentence = f'--cfg-options {dotted}: the config has no {name}, and nothing reads one.'
    if any(module != 'dpk_mm' for module in imports):  # code that may read it from the config
        print(f'warning: {sentence}', file=sys.stderr)
        return
    raise UsageError(sentence)


def _same(node: Any, name: str, value: Any, path: str = '') -> Iterator[str]:
    """Keys below the top under which the value of a variable stands."""
    items: Any = ()
    if isinstance(node, (Config, dict)):
        items = node.items()
    elif isinstance(node, (list, tuple)):
        items = enumerate(node)
    for key, found in items:
        place = f'{path}.{key}' if path else str(key)
        top = place.partition('.')[0]
        if top not in RUNNER_KEYS:
            continue
        names = (name, name.removeprefix('train_'), name.removeprefix('test_'))
        if path and key in names and found == value and type(found) is type(value):
            yield place
        elif isinstance(found, (dict, list, tuple)):
            yield from _same(found, name, value, place)
