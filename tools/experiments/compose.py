"""A pair of networks and methods, turned into configs and into the entries of a grid."""

from __future__ import annotations

import pprint
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch import nn

import dpk_mm  # noqa: F401  registers what configs name
from dpk_mm.cli.distill.schedule import set_ends
from dpk_mm.errors import UsageError, did_you_mean
from dpk_mm.fileio import write_text_atomically
from dpk_mm.models.backbones.stage_backbone import StageBackbone
from dpk_mm.models.pairs import PAIRS, find_pair

from .comparison_report import BASELINE, FIRST_STAGE
from .grid import Entry
from .groups import TEACHER
from .methods import (
    CLASSIFICATION,
    DETECTION,
    METHODS,
    Changes,
    Facts,
    cross_entropy_weight,
    fitting_methods,
)
from .teacher_selection.candidates import plain_training
from .teacher_selection.passes import digest

PUBLISHED, EQUAL = 'published', 'equal share'
#: Folder of the pairs, relative to the repository.
PAIRS_FOLDER = 'configs/_base_/pairs'
_CROSS_ENTROPY = 'model.architecture.head.loss.loss_weight'
_COMPARISON_KEYS = ('pair', 'data', 'teacher', 'assistants', 'early_stop')
_LABELS = dict(teacher='teacher', early='teacher, stopped early', assistant='assistant')


@dataclass(frozen=True)
class PairConfig:
    """A pair as its file says it.

    Attributes:
        name: Of the folder of results.
        path: Of the file.
        cfg: Its content.
        pair: Key of ``PAIRS``.
        comparison: What ``comparison`` of the file says: ``data``, arguments of ``data.prepare``; ``teacher``, changes
            for the teacher's training; ``assistants``, changes of the teacher's network, from the larger to the
            smaller; ``early_stop``, epochs of the teacher that is stopped early.
    """

    name: str
    path: Path
    cfg: Config
    pair: str
    comparison: Mapping[str, Any]

    @property
    def task(self) -> str:
        """``CLASSIFICATION`` or ``DETECTION``."""
        return DETECTION if find_pair(self.pair).levels else CLASSIFICATION

    @property
    def metric(self) -> str:
        """The metric that counts."""
        return 'coco/bbox_mAP' if self.task == DETECTION else 'accuracy/top1'


def read_pair(name: str, root: Path, pair: str | None = None) -> PairConfig:
    """Reads a pair.

    Args:
        name: Name of a file in ``configs/_base_/pairs``, such as ``'cifar100/resnet56_resnet20'``, or a path.
        root: The repository.
        pair: Key of ``PAIRS``; by default what the file's ``comparison`` says, or what it is called like.

    Raises:
        UsageError: If there is no such file, it is no pair, or its sizes are not known.
    """
    folder = root / PAIRS_FOLDER
    path = Path(name) if name.endswith('.py') else folder / f'{name}.py'
    known = [str(p.relative_to(folder).with_suffix('')) for p in sorted(folder.rglob('*.py'))]
    if not path.is_file():
        raise UsageError(
            f'There is no pair {name}: give the path of a config, or one of {", ".join(known)}'
            f'{did_you_mean(name, known) or "."}'
        )
    cfg = Config.fromfile(path)
    if not {'architecture', 'teacher'} <= set(cfg.get('model') or {}):
        raise UsageError(
            f'{path} has no model.architecture and model.teacher: give a pair, see configs/_base_/pairs/.'
        )
    comparison = cfg.get('comparison') or {}
    for key in comparison:
        if key not in _COMPARISON_KEYS:
            raise UsageError(
                f'{path}: comparison has {key!r}; its keys are {", ".join(_COMPARISON_KEYS)}'
                f'{did_you_mean(key, _COMPARISON_KEYS) or "."}'
            )
    called = str(path.relative_to(folder).with_suffix('')) if name in known else path.stem
    pair = pair or comparison.get('pair') or _pair_called(called, path)
    find_pair(pair)
    return PairConfig(called.replace('/', '_'), path, cfg, pair, comparison)


def _pair_called(name: str, path: Path) -> str:
    """The key of ``PAIRS`` that a file is called like; the longest of which it is a longer name."""
    plain = _plain(name)
    fitting = [key for key in PAIRS if plain.startswith(_plain(key))]
    if not fitting:
        raise UsageError(
            f'{path}: which channels and sizes its stages have is not known; add comparison = dict(pair=...) with one '
            f'of the names in dpk_mm/models/pairs.py, or give --pair{did_you_mean(name, PAIRS) or "."}'
        )
    return max(fitting, key=len)


def _plain(name: str) -> str:
    return re.sub(r'[^a-z0-9]', '', name.lower())


def find_facts(pair: PairConfig, data_options: Mapping[str, Any]) -> Facts:
    """Builds networks and training set once, and looks at them.

    Args:
        pair: The pair.
        data_options: ``--cfg-options`` that point to the data.
    """
    cfg = pair.cfg.copy()
    cfg.merge_from_dict(dict(data_options))
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    student, teacher = cfg.model.architecture.to_dict(), cfg.model.teacher.to_dict()
    facts = Facts(
        pair=pair.pair,
        task=pair.task,
        num_images=len(DATASETS.build(cfg.train_dataloader.dataset)),
        num_classes=_number_of_classes(student),
        epochs=int(cfg.train_cfg.get('max_epochs', 1)),
        optimizer=cfg.optim_wrapper.to_dict(),
    )
    if pair.task == DETECTION:
        dense = student.get('bbox_head') or {}
        return replace(
            facts,
            head_convs=dense.get('stacked_convs', 0),
            anchors=(student.get('rpn_head') or dense).get('anchor_generator'),
        )
    widths = [side['head'].get('in_channels') for side in (student, teacher)]
    row = find_pair(pair.pair)
    last = [*row.stages.values()][-1]
    if None in widths:
        widths = [last.student_channels, last.teacher_channels]
    backbones = [_build_backbone(side) for side in (student, teacher)]
    facts = replace(
        facts,
        embedding=tuple(widths),
        preact=tuple(isinstance(b, StageBackbone) for b in backbones),
        teacher_bns=_batch_normalisations(backbones[1]),
    )
    indices = [_all_but_the_stem(backbone) for backbone in backbones]
    if None in indices or row.resize:
        return facts
    channels = [
        _stage_channels(side, index)[: len(index)]
        for side, index in zip((student, teacher), indices, strict=True)
    ]
    count = len(channels[0]) - len(row.stages)
    if len(channels[0]) != len(channels[1]) or count < 0:
        return facts
    before = tuple(zip(channels[0], channels[1], strict=True))[:count]
    return replace(facts, stages=tuple(indices), before=before)


def _number_of_classes(student: Mapping[str, Any]) -> int:
    head = student.get('head') or student.get('bbox_head') or student['roi_head']['bbox_head']
    return int(head['num_classes'])


def _build_backbone(network: Mapping[str, Any]) -> nn.Module:
    return MODELS.build(dict(network['backbone'], _scope_=network.get('_scope_')))


def _all_but_the_stem(backbone: nn.Module) -> tuple[int, ...] | None:
    """``out_indices`` of all stages; None for backbones that are not known to give them."""
    if isinstance(backbone, StageBackbone):
        return tuple(range(1, len(backbone.stage_channels)))
    if type(backbone).__name__ in ('ResNet', 'ResNet_CIFAR'):
        return tuple(range(backbone.num_stages))
    return None


def _stage_channels(network: Mapping[str, Any], indices: Sequence[int]) -> list[int]:
    backbone = dict(network['backbone'], out_indices=tuple(indices))
    channels = backbone.get('in_channels', 3)
    built = _build_backbone(dict(network, backbone=backbone))
    built.eval()  # mmpretrain's returns nothing
    with torch.no_grad():
        outputs = built(torch.zeros(1, channels, 64, 64))
    return [output.shape[1] for output in outputs]


def _batch_normalisations(teacher: nn.Module) -> tuple[str, ...] | None:
    """Names of the last ones of all stages but the stem, of a ``CIFARResNet``."""
    if type(teacher).__name__ != 'CIFARResNet':
        return None
    stages = (teacher.layer1, teacher.layer2, teacher.layer3)
    return tuple(f'layer{i}.{len(stage) - 1}.bn2' for i, stage in enumerate(stages, start=1))


class Comparison:
    """The trainings that a comparison on a pair consists of.

    Configs are whole texts, so that each can be trained with ``tools/train.py`` by itself. No student inherits parts of
    its teacher, whatever the pair says: the student alone cannot, and its difference to the others would be that of
    the inherited parts and the method together.

    Args:
        pair: The pair.
        facts: Of the pair.
        names: Of the methods.
        seeds: Each has a teacher of its own, unless ``one_teacher`` or ``teacher_ckpt`` is given.
        folder: Of the configs.
        root: The repository.
        teacher_ckpt: A teacher that is trained already.
        one_teacher: Whether one teacher, of seed 0, serves all seeds; so do assistants and what is stopped early.
    """

    def __init__(
        self,
        pair: PairConfig,
        facts: Facts,
        names: Sequence[str],
        seeds: Sequence[int],
        folder: Path,
        root: Path,
        teacher_ckpt: str | None = None,
        one_teacher: bool = False,
    ) -> None:
        self.pair = pair
        self.facts = facts
        self.names = list(names)
        self.seeds = list(seeds)
        self._folder = folder
        self._root = root
        self._teacher_ckpt = teacher_ckpt
        self._one_teacher = one_teacher
        if pair.cfg.model.get('student_ckpt'):
            raise UsageError(
                f'{pair.path}: model.student_ckpt would start the distilled students from a checkpoint, and the '
                'student alone from random weights: leave it out, or set init_cfg of the backbone, which both read.'
            )
        self._configs: dict[str, str] = {}
        self.changes = {name: METHODS[name].changes(facts) for name in names}
        kinds = {METHODS[name].teacher for name in names}
        if 'assistant' in kinds and not pair.comparison.get('assistants'):
            raise UsageError(
                f'takd needs assistants, but {pair.path} names none: add comparison = dict(assistants=[dict(backbone='
                '...)]), changes of the teacher, from the larger to the smaller, or leave the method out.'
            )
        if 'early' in kinds and teacher_ckpt is not None:
            raise UsageError(
                'eskd trains a teacher that is stopped early, but --teacher-ckpt gives one that is trained: leave one '
                'of the two out.'
            )

    def of(self, names: Iterable[str], seeds: Iterable[int]) -> Comparison:
        """The same with other seeds, and with those of the named methods that fit."""
        named = set(names)
        fitting, _ = fitting_methods(
            [name for name, m in METHODS.items() if name in named and m.task == self.pair.task],
            self.facts,
            self.pair.comparison,
            self._teacher_ckpt,
        )
        return Comparison(
            self.pair,
            self.facts,
            fitting,
            sorted(seeds),
            self._folder,
            self._root,
            self._teacher_ckpt,
            self._one_teacher,
        )

    def teachers(self, seed: int) -> list[Entry]:
        """Trainings without a student, for students of a seed: the teacher, one that is stopped early, assistants."""
        found = []
        seed = self._teacher_seed(seed)
        if self._teacher_ckpt is None:
            found.append(self._teacher(seed, 'teacher', {}))
        kinds = {METHODS[name].teacher for name in self.names}
        if 'early' in kinds:
            epochs = self.pair.comparison.get('early_stop')
            epochs = epochs or max(1, self._epochs(self._teacher_config()) // 3)
            # the schedules stay, so that this is the teacher as it was after so many epochs
            found.append(self._teacher(seed, 'early', {'train_cfg.max_epochs': epochs}))
        if 'assistant' in kinds:
            found += self._assistants(seed)
        return found

    def baseline(self, seed: int) -> Entry:
        """The student without a teacher."""
        config = self._write(BASELINE, _plain_model(self.pair.cfg, 'architecture'))
        return Entry(f'{BASELINE}-s{seed}', config, BASELINE, seed)

    def first_stages(self, seed: int) -> list[Entry]:
        """The trainings that methods start from."""
        found = []
        for name in self.names:
            first = METHODS[name].first_stage
            if first is not None:
                config = self._write(f'{name}_first', self._distillation(first(self.facts)))
                found.append(
                    Entry(
                        f'{name}-first-s{seed}',
                        config,
                        TEACHER,
                        seed,
                        label=f'{FIRST_STAGE} {name}',
                        **self._taught(seed),
                    )
                )
        return found

    def equal_weights(self, name: str, factors: Mapping[str, float]) -> dict[str, float]:
        """Options with the weights of equal share; the cross entropy then has weight 1.

        Args:
            name: The method.
            factors: By which the published weights of its losses are multiplied.
        """
        losses = self.changes[name]['model']['distiller']['distill_losses']
        options = {
            key: float(f'{losses[loss].get("loss_weight", 1.0) * factors[loss]:.4g}')
            for loss, key in _weight_keys(factors).items()
        }
        # of the merged config: the pair may have another weight than 1, too
        if cross_entropy_weight(self._distillation(self.changes[name]).to_dict()) != 1.0:
            options[_CROSS_ENTROPY] = 1.0
        return options

    def weights_of(self, name: str, options: Mapping[str, Any]) -> dict[str, float]:
        """Those of ``options`` that :meth:`equal_weights` gave, of a result."""
        losses = self.changes[name]['model']['distiller']['distill_losses']
        keys = (*_weight_keys(losses).values(), _CROSS_ENTROPY)
        return {key: options[key] for key in keys if key in options}

    def student(
        self, name: str, seed: int, weight: str, options: Mapping[str, float] | None = None
    ) -> Entry:
        """The training of a method.

        Args:
            name: The method.
            seed: Of the training.
            weight: ``PUBLISHED`` or ``EQUAL``.
            options: The weights where they are not the published ones.
        """
        config = self.student_config(name)
        method = METHODS[name]
        checkpoints = {}
        if method.first_stage is not None:
            checkpoints[method.first_stage_key] = f'{name}-first-s{seed}'
        return Entry(
            f'{name}-{weight.split()[0]}-s{seed}',
            config,
            name,
            seed,
            setting=dict(weight=weight),
            options=dict(options or {}),
            checkpoints=checkpoints,
            **self._taught(seed, method.teacher),
        )

    def student_config(self, name: str) -> str:
        """Writes the config of a method; its path."""
        cfg = self._distillation(self.changes[name])
        if METHODS[name].teacher == 'assistant':
            change = self.pair.comparison['assistants'][-1]
            cfg = _merged(cfg, dict(model=dict(teacher=change)))
        return self._write(name, cfg)

    def _distillation(self, changes: Mapping[str, Any]) -> Config:
        cfg = _merged(self.pair.cfg, changes)
        if cfg.model.get('inherit'):
            cfg.model.inherit = None
        if self._teacher_ckpt is not None:
            cfg.model.teacher_ckpt = self._teacher_ckpt
            # a checkpoint that changed under the same name is another teacher
            cfg.teacher_digest = digest(Config(), self._teacher_ckpt)
        return cfg

    def _taught(self, seed: int, teacher: str = 'teacher') -> dict[str, Any]:
        """What an entry has of its teacher."""
        if teacher == 'teacher' and self._teacher_ckpt is not None:
            return {}  # its config has it
        seed = self._teacher_seed(seed)
        if teacher == 'assistant':
            return dict(teacher=f'assistant{len(self.pair.comparison["assistants"])}-s{seed}')
        return dict(teacher=f'{teacher}-s{seed}')

    def _teacher_seed(self, seed: int) -> int:
        return 0 if self._one_teacher else seed

    def _teacher_config(self) -> Config:
        cfg = _plain_model(self.pair.cfg, 'teacher')
        return _merged(cfg, self.pair.comparison.get('teacher') or {})

    def _teacher(self, seed: int, kind: str, options: Mapping[str, Any]) -> Entry:
        config = self._write('teacher', self._teacher_config())
        label = _LABELS[kind]
        return Entry(f'{kind}-s{seed}', config, TEACHER, seed, label=label, options=options)

    def _assistants(self, seed: int) -> list[Entry]:
        """The chain: each is trained as the teacher is, with KD from the one before it."""
        found = []
        above = self._taught(seed)
        changes: Sequence[Changes] = self.pair.comparison['assistants']
        for number, change in enumerate(changes, start=1):
            cfg = self._distillation({})
            head = cfg.model.architecture.head.to_dict()
            cfg.model.architecture = _merged(Config(cfg.model.teacher.to_dict()), change).to_dict()
            # whose weight KD has a say in
            cfg.model.architecture.head.loss = head.get('loss') or dict(type='CrossEntropyLoss')
            if number > 1:
                cfg = _merged(cfg, dict(model=dict(teacher=changes[number - 2])))
            cfg = _merged(cfg, METHODS['kd'].changes(self.facts))
            cfg = _merged(cfg, self.pair.comparison.get('teacher') or {})
            found.append(
                Entry(
                    f'assistant{number}-s{seed}',
                    self._write(f'assistant{number}', cfg),
                    TEACHER,
                    seed,
                    label=f'{_LABELS["assistant"]} {number}',
                    **above,
                )
            )
            above = dict(teacher=f'assistant{number}-s{seed}')
        return found

    def _epochs(self, cfg: Config) -> int:
        return int(cfg.train_cfg.get('max_epochs', 1))

    def _write(self, name: str, cfg: Config) -> str:
        """Writes a config once; its path, relative to the repository where it is inside."""
        if name not in self._configs:
            path = self._folder / f'{name}.py'
            # a training that is cut with --cfg-options would cut the schedules that have no end of their own
            set_ends(cfg, unknown=False)
            write_text_atomically(path, config_text(name, self.pair.name, cfg))
            inside = path.resolve().is_relative_to(self._root.resolve())
            self._configs[name] = str(
                path.resolve().relative_to(self._root.resolve()) if inside else path.resolve()
            )
        return self._configs[name]


def _weight_keys(losses: Iterable[str]) -> dict[str, str]:
    return {loss: f'model.distiller.distill_losses.{loss}.loss_weight' for loss in losses}


def _plain_model(cfg: Config, side: str) -> Config:
    """The config of one of the two networks by itself."""
    content = cfg.to_dict()
    content['model']['architecture'] = content['model'][side]
    content.pop('find_unused_parameters', None)
    plain = plain_training(Config(content))
    # the tools import dpk_mm themselves, and results were made with configs without this
    imports = plain.get('custom_imports') or {}
    names = imports.get('imports', ())
    names = [name for name in ([names] if isinstance(names, str) else names) if name != 'dpk_mm']
    if names:
        plain.custom_imports.imports = names
    elif imports:
        plain.pop('custom_imports')
    return plain


def _merged(cfg: Config, changes: Mapping[str, Any]) -> Config:
    merged = Config(cfg.to_dict())
    if changes:
        merged.merge_from_dict(dict(changes))
    return merged


def config_text(name: str, pair: str, cfg: Config) -> str:
    """The text of a whole config, one assignment for each key."""
    lines = [f'# {name} on the pair {pair}: written by tools/experiments/compare.py.']
    for key, value in cfg.to_dict().items():
        if key != 'comparison':
            lines.append(f'{key} = {pprint.pformat(value, width=100, sort_dicts=False)}')
    return '\n'.join(lines) + '\n'
