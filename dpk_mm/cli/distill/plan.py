"""The configs of a distillation, from the names of two networks, a method and a data set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ...checkpoint.pretrained import remove_pretrained
from ...compat.checkpoint import load_checkpoint_file
from ...engine.hooks.class_check_hook import class_names
from ...errors import UsageError, first_few
from ...models.pairing import Row
from ...models.pairing.complete import ARGUMENTS, SHORT_KEYS
from ...models.pairing.losses import parse_method
from ...models.pairing.zoo import FoundConfig, find_config
from ...models.teacher.checkpoint import is_remote
from ..options import load_config
from .classes import count_classes, set_classes, task_of
from .datasets import innermost, set_datasets
from .image_size import image_size, set_image_size
from .own_data import CLASSIFICATION, DETECTION, OwnData, read_data
from .request import Request
from .schedule import set_batch, set_epochs, set_machine

#: Keys of ``model`` that are the algorithm's and not the student's.
ALGORITHM_KEYS = {*ARGUMENTS, *SHORT_KEYS} - {'architecture', 'data_preprocessor', 'init_cfg'}
_LR = 'optim_wrapper.optimizer.lr'
#: Those that an option says, so that tests and results know of them.
_OPTIONS = {
    'teacher': '--teacher and --teacher-cfg-options',
    'teacher_ckpt': '--teacher-ckpt',
}
#: What is taken where the user names no method.
METHODS = {DETECTION: 'dpk_fgd', CLASSIFICATION: 'kd+dpk'}


@dataclass
class Network:
    """One of the two networks.

    Attributes:
        found: The config it comes from.
        cfg: That config with all changes.
        rows: What was chosen for it.
    """

    found: FoundConfig
    cfg: Config
    rows: list[Row] = field(default_factory=list)


@dataclass
class Plan:
    """What is to be done.

    Attributes:
        request: What the user asked for.
        teacher: The teacher; its config is written only if something in it was changed.
        student: The student.
        method: Name of the method.
        data: The user's own data; None for those of the zoo configs.
        teacher_ckpt: What the teacher is loaded from, also where it is trained first; None if there is none yet.
        teacher_start: What the training of the teacher starts from; None for the backbone's own weights.
        algorithm: Settings of ``model`` beside the two networks and the method.
        notes: Sentences for the user.
    """

    request: Request
    teacher: Network
    student: Network
    method: str
    data: OwnData | None
    teacher_ckpt: str | None
    teacher_start: str | None
    algorithm: dict[str, Any]
    notes: list[str]

    @property
    def trains_teacher(self) -> bool:
        """Whether the teacher is trained first."""
        return self.request.train_teacher

    @property
    def writes_teacher(self) -> bool:
        """Whether the teacher has a config of its own; else it is named, and teaches and is tested as its file says."""
        request = self.request
        changed = bool(request.teacher_cfg_options) or request.img_size is not None
        # the number of workers that this machine has is no reason: elsewhere it would be another config
        changed = changed or request.workers is not None
        return self.data is not None or self.trains_teacher or changed


def make_plan(request: Request) -> Plan:
    """Reads configs and data, and changes the configs as the request says; writes nothing but annotation copies.

    Raises:
        UsageError: If the request cannot be fulfilled.
    """
    teacher = find_config(request.teacher, '--teacher')
    student = find_config(request.student, '--student')
    algorithm, options = _split_options(request.cfg_options, request.method)
    networks = (
        Network(teacher, load_config(str(teacher.file), request.teacher_cfg_options, 'work_dirs')),
        Network(student, load_config(str(student.file), options, 'work_dirs')),
    )
    tasks = [task_of(network.cfg) for network in networks]
    if tasks[0] != tasks[1]:
        raise UsageError(
            f'--teacher {request.teacher} is for {tasks[0]} and --student {request.student} for {tasks[1]}: give two '
            'networks of the same task.'
        )
    data = read_data(request.data, request.images) if request.data else None
    if data is None and request.images:
        raise UsageError(
            '--images was given without --data: name the annotation files with --data.'
        )
    if data is not None and data.task != tasks[0]:
        needed = 'COCO files' if tasks[0] == 'detection' else 'class folders'
        raise UsageError(
            f'--data {" ".join(request.data)} is a set for {data.task}, but the two networks are for {tasks[0]}, which '
            f'needs {needed}.'
        )
    notes = list(data.notes) if data else []
    checkpoint, start = _teacher_files(request, teacher, data, notes)
    lengths = (request.teacher_epochs or request.epochs, request.epochs)
    given = (request.teacher_cfg_options, options)
    for network, role, epochs, last in zip(
        networks, ('teacher', 'student'), lengths, given, strict=True
    ):
        _change(network, role, request, data, epochs, last)
        # once more: what the user says goes over what was chosen
        network.cfg.merge_from_dict(dict(last))
        network.rows[:] = [row for row in network.rows if row.what not in last]
        network.rows += [Row(key, f'{value}', '--cfg-options') for key, value in last.items()]
    if data is None:
        counts = [count_classes(network.cfg) for network in networks]
        if None not in counts and counts[0] != counts[1]:
            raise UsageError(
                f'--teacher {request.teacher} has {counts[0]} classes and --student {request.student} {counts[1]}: '
                'give two networks of the same classes, or a data set of your own with --data and --train-teacher.'
            )
    _note_size(networks[1], data, request, notes)
    named = algorithm.get('method')
    method = '+'.join(parse_method(named)) if named else request.method or METHODS[tasks[0]]
    return Plan(request, *networks, method, data, checkpoint, start, algorithm, notes)


def data_exist(cfg: Config) -> bool:
    """Whether the training data of a config are where it says."""
    dataset = innermost(cfg.train_dataloader.dataset)[0]
    root = str(dataset.get('data_root') or '')
    file = dataset.get('ann_file')
    return os.path.exists(os.path.join(root, file)) if file else bool(root) and os.path.isdir(root)


def _split_options(
    options: Mapping[str, Any] | None, method: str | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of the algorithm, nested, and those of the student's config.

    Args:
        options: Of ``--cfg-options``.
        method: Of ``--method``, to which options may give settings.

    Raises:
        UsageError: If an option is that of another one, or two do not go together.
    """
    algorithm: dict[str, Any] = {}
    others: dict[str, Any] = {}
    # a whole before its parts, in whatever order they were given
    for dotted, value in sorted((options or {}).items(), key=lambda item: item[0].count('.')):
        parts = dotted.split('.')
        if parts[0] == 'model' and len(parts) > 1 and parts[1] in _OPTIONS:
            raise UsageError(
                f'--cfg-options {dotted}: give it with {_OPTIONS[parts[1]]}, so that the teacher that teaches is the '
                'one that is trained and tested.'
            )
        if parts[0] == 'model' and len(parts) > 1 and parts[1] in ALGORITHM_KEYS:
            if parts[1] == 'method':
                value = _named(dotted, value, method)
                if method is not None:
                    algorithm.setdefault('method', dict(type=method))
            _set(algorithm, parts[1:], value, dotted)
        elif parts[:2] == ['model', 'architecture']:
            others['.'.join(['model', *parts[2:]])] = value
        else:
            others[dotted] = value
    return algorithm, others


def _named(dotted: str, value: Any, method: str | None) -> Any:
    """A setting of the method; a whole method must not name another one than ``--method``."""
    if method is not None and dotted in ('model.method', 'model.method.type'):
        if dotted.endswith('type') or not isinstance(value, Mapping) or 'type' in value:
            raise UsageError(
                '--method and --cfg-options model.method both name a method: give one of them.'
            )
        return dict(value, type=method)
    return value


def _set(node: dict[str, Any], parts: list[str], value: Any, dotted: str) -> None:
    """Sets a nested value; the name of a method is a method without settings."""
    for depth, part in enumerate(parts[:-1]):
        inner = node.get(part, {})
        if isinstance(inner, str) and parts[: depth + 1] == ['method']:
            inner = dict(type=inner)
        if not isinstance(inner, Mapping):
            place = '.'.join(['model', *parts[: depth + 1]])
            raise UsageError(
                f'--cfg-options {dotted}: {place} is {inner!r}, which has no parts; give {place} as a whole.'
            )
        node[part] = dict(inner)  # the option's own dict stays as it is
        node = node[part]
    node[parts[-1]] = value


def _change(
    network: Network,
    role: str,
    request: Request,
    data: OwnData | None,
    epochs: int | None,
    options: Mapping[str, Any],
) -> None:
    cfg, rows = network.cfg, network.rows
    cfg.pop('work_dir', None)
    if data is not None:
        places = set_classes(cfg, data)
        named = first_few(data.classes, most=6)
        rows.append(
            Row(
                'num_classes',
                f'{len(data.classes)} ({named})',
                f'--data; {first_few(places, most=1)}',
            )
        )
        rows += set_datasets(cfg, data, request.work_dir / 'data')
        for name, part in data.parts.items():
            boxes = f', {part.boxes} boxes' if part.boxes else ''
            rows.append(
                Row(
                    f'data of {name}',
                    f'{part.count} images{boxes}',
                    f'{part.ann_file or part.images}',
                )
            )
    if request.img_size is not None:
        old = image_size(cfg)
        if set_image_size(cfg, request.img_size):
            why = (
                f'--img-size; {old} in its config, and all sizes of pipelines and hooks are scaled'
            )
            rows.append(Row('image size', str(request.img_size), why))
    lr = request.lr
    if isinstance(options.get(_LR), (int, float)):
        # as --lr: what ends at a rate of its own is scaled from the rate of the file to that of the option
        lr = options[_LR]
        given = (Config.fromfile(network.found.file).get('optim_wrapper') or {}).get('optimizer')
        cfg.optim_wrapper.optimizer.lr = (given or {}).get('lr') or lr
    rows += set_batch(cfg, request.batch_size, lr, request.gpus)
    rows += set_epochs(cfg, epochs, data.parts['train'].count if data else None, request.gpus)
    rows += set_machine(cfg, request.workers, request.cuda)
    if request.seed is not None:
        cfg.randomness = dict(cfg.get('randomness') or {}, seed=request.seed)
        rows.append(Row('randomness.seed', str(request.seed), '--seed'))
    if request.from_scratch:
        if remove_pretrained(cfg.model):
            rows.append(
                Row('init_cfg', 'None', '--from-scratch: random weights, nothing is downloaded')
            )
        cfg.load_from = None
    checkpoint = (cfg.get('default_hooks') or {}).get('checkpoint')
    if isinstance(checkpoint, dict) and 'max_keep_ckpts' not in checkpoint:
        checkpoint.max_keep_ckpts = 2
        rows.append(
            Row(
                'default_hooks.checkpoint.max_keep_ckpts',
                '2',
                'the disk; the best one is kept besides',
            )
        )
    if role == 'teacher' and isinstance(checkpoint, dict):
        checkpoint.save_best = 'auto'


def _teacher_files(
    request: Request, found: FoundConfig, data: OwnData | None, notes: list[str]
) -> tuple[str | None, str | None]:
    """The teacher's checkpoint, and what its training starts from."""
    given = request.teacher_ckpt
    if given is not None and not is_remote(given):
        if not Path(given).is_file():
            raise UsageError(f'--teacher-ckpt: there is no file {given}.')
        if data is not None and not request.train_teacher:
            _compare_classes(given, data, notes)
    published = None if request.from_scratch else found.checkpoint
    if request.train_teacher:
        start = given or published
        if start:
            notes.append(f'the training of the teacher starts from {start}.')
        return str(request.work_dir / 'teacher' / 'teacher.pth'), start
    if given is not None:
        return given, None
    if data is not None:
        missing = (
            f'--teacher {request.teacher} is not trained on --data'
            + (f', only on {found.trained_on} ({found.checkpoint})' if found.checkpoint else '')
            + ': add --train-teacher to train it first, or give its checkpoint with --teacher-ckpt FILE'
        )
        if request.train:
            raise UsageError(f'{missing}.')
        notes.append(f'{missing}; the configs are written all the same.')
        return None, None
    if published is None:
        missing = (
            f'the zoo has no checkpoint of --teacher {request.teacher}'
            if not request.from_scratch
            else '--from-scratch takes no checkpoint of the zoo'
        )
        missing += ': give it with --teacher-ckpt FILE, or train it with --train-teacher'
        if request.train:
            raise UsageError(f'{missing}.')
        notes.append(f'{missing}; the config is written without one.')
    return published, None


def _compare_classes(file: str, data: OwnData, notes: list[str]) -> None:
    meta = load_checkpoint_file(file).get('meta')
    meta = meta if isinstance(meta, dict) else {}
    known = class_names(meta.get('dataset_meta')) or class_names(meta)
    if not known:
        notes.append(
            f'--teacher-ckpt {file} does not say its classes: they have to be those of --data in this order, '
            f'{first_few(data.classes, most=8)}.'
        )
    elif tuple(known) != data.classes:
        raise UsageError(
            f'--teacher-ckpt {file} was trained on {len(known)} classes ({first_few(known)}), but --data has '
            f'{len(data.classes)} ({first_few(data.classes)}): give a teacher of these classes, or add --train-teacher '
            'to train it on --data, starting from this file.'
        )


def _note_size(student: Network, data: OwnData | None, request: Request, notes: list[str]) -> None:
    """Small images that a pipeline enlarges cost time and bring nothing."""
    sizes = data.parts['train'].sizes if data else ()
    if not sizes or request.img_size is not None:
        return
    shorter = sorted(min(size) for size in sizes)[len(sizes) // 2]
    try:
        wanted = image_size(student.cfg)
    except UsageError:
        return
    if wanted >= 1.5 * shorter:
        notes.append(
            f'the images are enlarged from {shorter} to {wanted} pixels (shorter side), as the zoo config does with '
            f'its own: --img-size {shorter} trains about {(wanted / shorter) ** 2:.0f} times faster.'
        )
