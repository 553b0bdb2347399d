"""The teachers of the command line, and the config of each pair."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from dpk_mm.analysis.loading import read_config
from dpk_mm.checkpoint.student_config import is_distillation, student_config
from dpk_mm.errors import UsageError
from dpk_mm.models.pairing import complete, is_short

_PATTERN = re.compile(r'(?:(?P<name>[^=:/]+)=)?(?P<config>.+?\.py)(?:[:=](?P<checkpoint>.+))?')
FORM = '[NAME=]CONFIG.py:CHECKPOINT'
#: Name of the training of the student alone, beside those with the teachers.
STUDENT = 'student'
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


@dataclass(frozen=True)
class Candidate:
    """One teacher of the command line.

    Attributes:
        name: Unique; also the name of folders.
        config: File of the teacher's own config, or of a whole distillation with this teacher.
        checkpoint: Its checkpoint, a file or a URL; None takes that of the distillation, if it is of this very teacher,
            or what the zoo publishes.
    """

    name: str
    config: str
    checkpoint: str | None


def parse_candidates(texts: Sequence[str]) -> list[Candidate]:
    """Reads the teachers of the command line.

    Args:
        texts: Each ``[NAME=]CONFIG.py:CHECKPOINT`` or ``CONFIG.py=CHECKPOINT``; the name is by default that of the
            config, or of the checkpoint's folder where several have one config.

    Raises:
        UsageError: If a text has another form, a file does not exist, two have one name or that of the student's own
            training, or there are less than two teachers.
    """
    parts = []
    for text in texts:
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise UsageError(f'--teachers {text}: expected {FORM}.')
        if '::' not in match['config'] and not Path(match['config']).is_file():
            raise UsageError(f'--teachers {text}: there is no config {match["config"]}.')
        checkpoint = match['checkpoint']
        if checkpoint and '://' not in checkpoint and not Path(checkpoint).is_file():
            raise UsageError(f'--teachers {text}: there is no checkpoint {checkpoint}.')
        parts.append((match['name'], match['config'], checkpoint))
    if len(parts) < 2:
        raise UsageError('--teachers: nothing to choose; give at least two teachers.')
    stems = [Path(config).stem for _, config, _ in parts]
    found: list[Candidate] = []
    for (name, config, checkpoint), stem in zip(parts, stems, strict=True):
        if name is None:
            several = stems.count(stem) > 1 and checkpoint is not None
            name = Path(checkpoint).parent.name or stem if several else stem
        name = re.sub(r'[^\w.-]', '_', name)
        if name == STUDENT:
            raise UsageError(
                f'--teachers {config}: {name} is the name of the training of the student alone; give the teacher '
                f'another one, such as small={config}:{checkpoint}.'
            )
        if any(name == other.name for other in found):
            raise UsageError(
                f'--teachers: two are called {name}; give them names, such as small={config}:{checkpoint}.'
            )
        found.append(Candidate(name, config, checkpoint))
    return found


def pair_config(
    student: Config,
    candidate: Candidate,
    method: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Config:
    """The whole distillation of a student and one teacher.

    Args:
        student: A plain config of the student, which needs ``method``; or a distillation, whose teacher is replaced;
            one of the short form is completed with the teacher.
        candidate: The teacher. Where its config is a distillation, of the same student, that is taken as it is.
        method: Name of a method, for a plain student, or in place of that of the short form; see
            ``dpk_mm.models.pairing.complete``.
        options: ``--cfg-options`` that the student's config has already; a candidate that is a distillation gets them.

    Returns:
        A config that can be trained.

    Raises:
        UsageError: If the two do not fit, or something is missing.
    """
    zoo = '::' in candidate.config
    teacher = None if zoo else read_config(candidate.config)
    if teacher is not None and is_distillation(teacher):
        cfg = _whole(teacher, candidate, method, options)
        own = student_config(complete(student).cfg) if is_distillation(student) else student
        if not _same_network(student_config(cfg).model, _plain_model(own)):
            raise UsageError(f'{candidate.config} is a distillation of another student.')
        _check_budget(candidate, cfg, own)
    elif is_distillation(student) and not is_short(student):
        if teacher is None:
            raise UsageError(
                f'{candidate.config}: a teacher from the zoo needs a plain student and --method.'
            )
        cfg = copy.deepcopy(student)
        cfg.model.teacher = _plain_model(teacher)
        if not _same_network(cfg.model.teacher, student.model.get('teacher')):
            cfg.model.teacher_ckpt = None  # of another network
    else:
        cfg = complete(_short(student, candidate, method)).cfg
    if candidate.checkpoint is not None:
        given = candidate.checkpoint
        cfg.model.teacher_ckpt = given if '://' in given else os.path.abspath(given)
    if not cfg.model.get('teacher_ckpt'):
        raise UsageError(f'{candidate.name} has no checkpoint: write {FORM}.')
    return cfg


def _whole(
    cfg: Config, candidate: Candidate, method: str | None, options: Mapping[str, Any] | None
) -> Config:
    """A candidate that is a distillation itself, with what the command line says of all of them."""
    if options:
        cfg.merge_from_dict(dict(options))
    if is_short(cfg):
        if method is not None:
            cfg.model.method = method
        return complete(cfg).cfg
    if method is not None:
        raise UsageError(
            f'{candidate.config} is a distillation that says its losses itself: leave --method out, or give the plain '
            'config of the teacher.'
        )
    return cfg


def _check_budget(candidate: Candidate, cfg: Config, student: Config) -> None:
    """Students are compared after equal trainings, else the teacher would get the blame for the training."""
    for what in ('train_cfg.max_epochs', 'train_dataloader.batch_size'):
        found, wanted = _at(cfg, what), _at(student, what)
        if found != wanted:
            raise UsageError(
                f'{candidate.config} has {what}={found}, but STUDENT {wanted}: students are compared after equal '
                'trainings; set both to the same, such as with --cfg-options.'
            )


def _at(cfg: Config, key: str) -> Any:
    node: Any = cfg
    for part in key.split('.'):
        node = (node or {}).get(part)
    return node


def _same_network(one: Mapping[str, Any], other: Any) -> bool:
    """Whether two models differ in nothing but where their types are looked up."""
    if not isinstance(other, Mapping):
        return False
    return {**one, '_scope_': None} == {**other, '_scope_': None}


def _plain_model(cfg: Config) -> ConfigDict:
    model = ConfigDict(copy.deepcopy(cfg.model))
    model.setdefault('_scope_', cfg.get('default_scope', 'mmengine'))
    if cfg.get('data_preprocessor'):
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    return model


def _short(student: Config, candidate: Candidate, method: str | None) -> Config:
    cfg = copy.deepcopy(student)
    if is_short(cfg):
        if cfg.model.get('teacher') != candidate.config:
            cfg.model.pop('teacher_ckpt', None)  # of another network
        if candidate.checkpoint is not None:
            cfg.model.teacher_ckpt = candidate.checkpoint
        cfg.model.teacher = candidate.config
        if method is not None:
            cfg.model.method = method
        return cfg
    if method is None:
        raise UsageError(
            "STUDENT is a plain config: say with --method what its teachers teach by, such as 'kd', or give a "
            'distillation.'
        )
    short = dict(
        type='DPKDistill',
        _scope_='mmrazor',
        architecture=_plain_model(cfg),
        teacher=candidate.config,
        method=method,
    )
    if candidate.checkpoint is not None:
        short['teacher_ckpt'] = candidate.checkpoint
    cfg.model = ConfigDict(short)
    return cfg


def plain_training(cfg: Config) -> Config:
    """The training of the student alone, with the schedule of the distillation."""
    alone = student_config(cfg)
    wrapper: dict[str, Any] = dict(alone.get('optim_wrapper') or {})
    if 'architecture' in wrapper:  # one optimizer for the student and one for the distiller
        own = wrapper.pop('architecture')
        for key in ('constructor', 'distiller'):
            wrapper.pop(key, None)
        alone.optim_wrapper = ConfigDict({**wrapper, **own})
    return alone


def set_data(cfg: Config, folder: str) -> None:
    """Sets ``data_root`` of all datasets, in place.

    Raises:
        UsageError: If there is no such folder.
    """
    if not Path(folder).is_dir():
        raise UsageError(f'--data: there is no folder {folder}.')
    root = os.path.join(os.path.abspath(folder), '')
    for name in LOADERS:
        loader = cfg.get(name)
        dataset = loader.get('dataset') if loader else None
        while isinstance(dataset, dict) and isinstance(dataset.get('dataset'), dict):
            dataset = dataset['dataset']  # repeated, or balanced
        if isinstance(dataset, dict):
            old = dataset.get('data_root')
            dataset['data_root'] = root
            for evaluator in (cfg.get(f'{name.split("_")[0]}_evaluator'),):
                _move_annotations(evaluator, old, root)


def _move_annotations(evaluator: Any, old: str | None, root: str) -> None:
    """The annotation file of an evaluator, where it is in the dataset's folder."""
    for metric in evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]:
        file = metric.get('ann_file') if isinstance(metric, dict) else None
        if file and old and file.startswith(old):
            metric['ann_file'] = root + file[len(old) :].lstrip('/')
