"""Turns a short config into an ordinary one."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config, ConfigDict

from ...checkpoint.type_names import type_name
from ...errors import UsageError, did_you_mean, first_few
from ..algorithms import DPKDistill
from ..teacher.checkpoint import pretrained_file
from ..teacher.input_size import read_size
from .checks import check_exchanged, check_images, check_task
from .classes import class_names, first_difference
from .inherit import inheritable
from .levels import LevelPair
from .losses import METHODS, Fit, levels_for, make_losses, parse_method
from .networks import Network, inherited_model, read_network, without_scope
from .probe import Feature, Look, build, look_at, own_size
from .records import one_by_one, records_of, shared_levels
from .rows import Row
from .size import Size, padded, training_size
from .zoo import published_checkpoint

SHORT_KEYS = ('method', 'input_size', 'smaller_teacher')
"""Keys of ``model`` that a short config has beside those of ``DPKDistill``."""


@dataclass(frozen=True)
class Completed:
    """What :func:`complete` gives.

    Attributes:
        cfg: The whole config in its ordinary, explicit form, without ``model.method``: it can be built, dumped,
            repeated and edited.
        rows: What was chosen, in the order of the table that is printed; empty if there was nothing to choose.
    """

    cfg: Config
    rows: list[Row] = field(default_factory=list)


def is_short(cfg: Mapping[str, Any]) -> bool:
    """Whether a whole config has the short form: a ``DPKDistill`` with a ``method``."""
    model = cfg.get('model')
    return (
        isinstance(model, Mapping)
        and 'method' in model
        and type_name(model.get('type')) == DPKDistill.__name__
    )


def complete(cfg: Config | ConfigDict | Mapping[str, Any]) -> Completed:
    """Completes a config of the short form by one forward pass of student and teacher.

    The short form, on top of the student's zoo config (data, schedule, hooks)::

        _base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
        model = dict(
            _scope_='mmrazor', type='DPKDistill', architecture=_base_.model,
            teacher='mmdet::retinanet/retinanet_r101_fpn_2x_coco.py', method='dpk_fgd')

    ``architecture`` and ``teacher`` are each a model's config, the name of a zoo config (``'mmdet::...'``) or a file.
    With an ``architecture`` of the last two kinds and a config that names no data set, everything else of the student's
    config is taken, too. ``teacher_ckpt`` is by default the checkpoint that the zoo publishes for a teacher given by
    name; None is an untrained teacher. ``method`` is a name, a sum such as ``'kd+dpk'``, a dict
    ``dict(type='kd', tau=4.0)`` with changes of its settings, or a list of these. ``input_size`` (height, width)
    replaces the training size that is read from the pipeline, and ``smaller_teacher=True`` allows a teacher that is
    smaller than the student. All other keys are those of ``DPKDistill``; what they say stands, ``distiller`` included,
    in which single keys can be given.

    Nothing is downloaded, nothing is drawn from the random generators, and the result depends on the config alone.

    Args:
        cfg: A whole config; it is not changed. One that is not short comes back as it is.

    Returns:
        The completed config, and what was chosen.

    Raises:
        UsageError: (a ValueError) If the method is unknown, or the two networks cannot learn from each other by it:
            tasks, classes or strides that differ, student and teacher exchanged; if the training size is not known.
    """
    whole = cfg if isinstance(cfg, Config) else Config(dict(cfg))
    if not is_short(whole):
        return Completed(whole)
    return _Completion(copy.deepcopy(whole)).run()


class _Completion:
    """The steps of :func:`complete`, and what they have found."""

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.given = cfg.model
        self.rows: list[Row] = []
        self.methods = parse_method(self.given.method)
        self.left_over: set[str] = set()

    def run(self) -> Completed:
        student, teacher = self._networks()
        check_task(student, teacher, self.methods)
        models = {network.key: build(network) for network in (student, teacher)}
        size = self._size(student, own_size(models[student.key]))
        teacher_size = self._teacher_size(size, own_size(models[teacher.key]))
        look = look_at(models[student.key], student, size)
        given = look_at(models[teacher.key], teacher, teacher_size)
        if teacher_size != size:
            given.features = [_on(size, teacher_size, feature) for feature in given.features]
        check_images(look, given)
        if not self.given.get('smaller_teacher'):
            check_exchanged(look, given)
        difference = self._classes(teacher, look, given)
        losses, records = self._distillation(look, given)
        kind = self.given.type
        chosen: dict[str, Any] = dict(type='DPKDistiller', records=records, distill_losses=losses)
        model = dict(
            type=kind if isinstance(kind, str) else type_name(kind),
            _scope_='mmrazor',
            architecture=student.model,
            teacher=teacher.model,
            teacher_ckpt=self._checkpoint(teacher),
            inherit=self._inherit(look, given, difference),
            teacher_forward=self._teacher_forward(given),
        )
        model |= {
            key: value
            for key, value in self.given.items()
            if key in ARGUMENTS
            and key not in ('architecture', 'teacher', 'distiller', 'inherit')
            and key not in self.left_over
        }
        user = self.given.get('distiller')
        with _imports_kept():
            merged = Config._merge_a_into_b(user, ConfigDict(chosen)) if user else chosen
        _check_losses(merged, losses, first_few(self.methods))
        self.cfg.model = ConfigDict(model, distiller=merged)
        self._hooks(losses, look)
        self._imports()
        return Completed(self.cfg, self.rows)

    def _row(self, what: str, value: Any, why: str) -> None:
        self.rows.append(Row(what, str(value), why))

    # Networks

    def _networks(self) -> tuple[Network, Network]:
        for key in ('architecture', 'teacher'):
            if self.given.get(key) is None:
                raise UsageError(
                    f"model.{key} is missing: give a model's config, a name such as "
                    "'mmdet::retinanet/retinanet_r101_fpn_2x_coco.py', or the path of a config."
                )
        student = read_network(self.given.architecture, 'model.architecture', self._scope())
        # a loader without a data set, or with settings of one alone, changes the student's
        dataset = (self.cfg.get('train_dataloader') or {}).get('dataset')
        unnamed = dataset is None or (isinstance(dataset, Mapping) and 'type' not in dataset)
        if student.whole is not None and unnamed:
            self._take_data(student)
        teacher = read_network(self.given.teacher, 'model.teacher', self._scope())
        self._check_left_over(student)
        for side, network in (('student', student), ('teacher', teacher)):
            self._row(side, network.name or type_name(network.model.type), 'of the config')
        return student, teacher

    def _scope(self) -> str | None:
        scope = self.cfg.get('default_scope')
        return None if scope in (None, 'mmrazor', 'mmengine') else scope

    def _take_data(self, student: Network) -> None:
        """Data, schedule and hooks of the student's own config, with what this config says over them."""
        base = copy.deepcopy(student.whole)
        base.pop('model')  # type: ignore[union-attr]
        base.pop('work_dir', None)  # type: ignore[union-attr]  # that of its own training
        with _imports_kept():
            own = {key: value for key, value in self.cfg.items() if key != 'model'}
            base.merge_from_dict(own)  # type: ignore[union-attr]
        base.model = self.given  # type: ignore[union-attr]
        object.__setattr__(base, '_filename', self.cfg.filename)
        self.cfg = base  # type: ignore[assignment]
        self._row(
            'data, schedule, hooks',
            student.name,
            "the student's; the config names no data set",
        )

    def _check_left_over(self, student: Network) -> None:
        """``model`` of a base config, which was merged with the distillation, holds nothing but the student."""
        # what both classes take, such as data_preprocessor, is the base's where it is the student's
        known = {*ARGUMENTS, *SHORT_KEYS, 'type', '_scope_'}
        own = {k for k, v in self.given.items() if k in student.model and student.model[k] == v}
        shared = [k for k in self.given if k in student.model or k not in known]
        left = [k for k in shared if k not in own and k not in ('type', '_scope_')]
        # where the student was changed in architecture, the base's unchanged part still stands beside it
        base = inherited_model(self.cfg.filename) if left else {}
        own |= {k for k in left if k in base and without_scope(self.given[k]) == base[k]}
        self.left_over = own
        other = [k for k in left if k not in own and k not in known]
        other = [k for k in other if self.given[k] != student.model.get(k)]
        if other:
            raise UsageError(
                f'model has the keys {first_few(other)}, which DPKDistill does not know and which differ from those '
                'of model.architecture: write changes of the student into architecture, or begin model with '
                '_delete_=True if they are from the base config.'
            )

    # Sizes

    def _size(self, student: Network, own: Size | None) -> Size:
        given = self.given.get('input_size')
        if given is not None:
            size = read_size(given, 'model.input_size')
            self._row('input size', _by(size), 'of the config')
            return size
        found = training_size(self.cfg)
        if found is not None:
            found = padded(
                found, student.model.get('data_preprocessor') or self.cfg.get('data_preprocessor')
            )
        if own is not None:
            if found is not None and found != own:
                raise UsageError(
                    f'model.architecture is made for images of {_by(own)}, but train_dataloader gives {_by(found)}: '
                    'change img_size of its backbone or the sizes in the pipelines, or set model.input_size to the '
                    '(height, width) that is meant.'
                )
            self._row('input size', _by(own), "the student's own size")
            return own
        if found is None:
            raise UsageError(
                'No step of train_dataloader.dataset.pipeline says the size of the images: set '
                'model.input_size=(height, width), the largest size in training.'
            )
        self._row('input size', _by(found), 'the largest of the training pipeline')
        return found

    def _teacher_size(self, size: Size, own: Size | None) -> Size:
        asked = self.given.get('teacher_input_size')
        if asked is not None:
            wide = read_size(asked, 'model.teacher_input_size')
            self._row(
                "teacher's input size", _by(wide), 'of the config: the images are resized for it'
            )
            return wide
        if own is not None and own != size:
            raise UsageError(
                f'model.teacher expects images of {_by(own)}, but the student learns on {_by(size)}: set '
                f'model.teacher_input_size={own} to have the images resized for it, or take a teacher for {_by(size)}.'
            )
        return size

    # What is compared

    def _distillation(self, look: Look, given: Look) -> tuple[dict[str, Any], dict[str, Any]]:
        levels: list[LevelPair] = []
        if any(METHODS[name].record == 'feats' for name in self.methods):
            levels = shared_levels(look, given, first_few(self.methods), self._row)
        wanted = [name for name in self.methods if METHODS[name].record == 'feats']
        used = [x for x in levels if any(x in levels_for(n, levels, look.task) for n in wanted)]
        used = one_by_one(used) if look.task == 'classifier' else used
        records = records_of(self.methods, used, look, given)
        for name, record in records.items():
            self._row(f'records.{name}', record, 'found by the forward pass')
        losses: dict[str, Any] = {}
        for name, settings in self.methods.items():
            chosen = levels_for(name, used, look.task) if METHODS[name].record == 'feats' else []
            if any(level.student.tokens or level.teacher.tokens for level in chosen):
                self._check_tokens(name, chosen)
            found = make_losses(name, settings, Fit(used, chosen, look, given))
            twice = [loss for loss in found if loss in losses]
            if twice:
                raise UsageError(
                    f'model.method: {name} and a method before it in {first_few(self.methods)} both give '
                    f'{twice[0]}, so that one of them would be lost: name one of them, or write the losses into '
                    'distiller.distill_losses.'
                )
            losses |= found
        if given.size != look.size:  # asked for: its tokens are more, or fewer, than the student's
            for loss in losses.values():
                for stage in (loss.get('transforms') or {}).values():
                    stage['resize'] = True
        self._loss_rows(losses, used)
        return losses, records

    def _check_tokens(self, name: str, levels: list[LevelPair]) -> None:
        if not METHODS[name].tokens or (
            name == 'manifold' and not all(x.student.tokens and x.teacher.tokens for x in levels)
        ):
            raise UsageError(
                f"model.method: {name} compares maps, but the features here are a transformer's tokens, [N, L, C]; "
                'take dpk, or a method on logits such as kd.'
            )

    def _loss_rows(self, losses: Mapping[str, Any], levels: list[LevelPair]) -> None:
        for name, loss in losses.items():
            self._row(name, loss['type'], f'method {first_few(self.methods)}')
            for stage, entry in (loss.get('transforms') or {}).items():
                rows, columns = entry['position_grid']
                self._row(
                    f'{name}.{stage}',
                    f'patch {entry["patch_size"]}, {rows}x{columns} tokens, width {entry["embed_dims"]}',
                    'at most 450 tokens of the largest image; width from the teacher',
                )
            weights = (loss.get('criterion') or loss).get('weights')
            if weights:
                self._row(f'{name} weights', weights, 'published for such detectors')
            if 'loss_weight' in loss:
                self._row(
                    f'{name} loss_weight', loss['loss_weight'], 'published; measure it for yours'
                )

    # What the student starts from, and what the teacher is

    def _classes(self, teacher: Network, look: Look, given: Look) -> str | None:
        """How the classes of the two differ, in words."""
        difference = first_difference(class_names(self.cfg), class_names(teacher.whole))
        if (
            difference is None
            and None not in (look.classes, given.classes)
            and look.classes != given.classes
        ):
            difference = f'{look.classes} classes here and {given.classes} of the teacher'
        if difference is None:
            return None
        uses_logits = [name for name in self.methods if METHODS[name].record == 'logits']
        if uses_logits:
            raise UsageError(
                f'model.method: {uses_logits[0]} compares logits class by class, but the classes differ: {difference}; '
                'take a teacher that was trained on these classes, or a method on features such as dpk.'
            )
        self._row('classes', difference, 'only features are compared, and no head is inherited')
        return difference

    def _inherit(self, look: Look, given: Look, difference: str | None) -> list[str] | None:
        if 'inherit' in self.given:
            return self.given.inherit
        if self.cfg.get('load_from') or self.given.get('student_ckpt'):
            self._row('inherit', None, 'the student starts from a checkpoint')
            return None
        parts = inheritable(look, given, difference is None)
        if look.task == 'detector':
            why = 'equal names and shapes' if parts else 'no part has equal names and shapes'
            self._row('inherit', ', '.join(parts) or None, why)
        return parts or None

    def _checkpoint(self, teacher: Network) -> str | None:
        if 'teacher_ckpt' in self.given:
            return self.given.teacher_ckpt
        pretrained = teacher.model.get('pretrained')
        if pretrained and not isinstance(pretrained, str):  # a network of timm brings its weights
            self._row('teacher_ckpt', None, 'pretrained=True of the teacher')
            return None
        url = published_checkpoint(teacher.name)
        # of a network of a zoo it is what its training started from
        own = pretrained or pretrained_file(teacher.model.get('init_cfg'))
        if url is None and own:
            self._row('teacher_ckpt', own, 'pretrained or init_cfg of the teacher')
            return own
        if url is None:
            raise UsageError(
                f'model.teacher_ckpt is missing, and no zoo names a checkpoint of {teacher.name or "this teacher"}: '
                'give a file or a URL, or teacher_ckpt=None for a teacher that is not trained.'
            )
        self._row('teacher_ckpt', url, 'what the zoo publishes for the teacher')
        return url

    @staticmethod
    def _teacher_forward(given: Look) -> str:
        return 'features' if given.task == 'detector' else 'logits'

    # The rest of the config

    def _hooks(self, losses: Mapping[str, Any], look: Look) -> None:
        hooks = self.cfg.setdefault('default_hooks', ConfigDict())
        if (
            any(loss.get('type') == 'DPKLoss' for loss in losses.values())
            and 'mask_ratio' not in hooks
        ) and not self._has_hook('MaskRatioHook'):
            batch = (self.cfg.get('train_dataloader') or {}).get('batch_size', 1)
            images = look.task == 'classifier' and batch >= 4
            hooks.mask_ratio = dict(
                type='mmrazor.CKAMaskRatioHook', samples='images' if images else 'positions'
            )
            why = f'{look.task}s, with {batch} images on each GPU'
            self._row('default_hooks.mask_ratio', hooks.mask_ratio.samples, why)
        if 'student_checkpoint' not in hooks and not self._has_hook('StudentCheckpointHook'):
            hooks.student_checkpoint = dict(type='mmrazor.StudentCheckpointHook')
        if 'distill_alarm' not in hooks and not self._has_hook('DistillAlarmHook'):
            hooks.distill_alarm = dict(type='mmrazor.DistillAlarmHook')

    def _has_hook(self, ending: str) -> bool:
        hooks = [*(self.cfg.get('custom_hooks') or []), *self.cfg.default_hooks.values()]
        return any(
            isinstance(h, Mapping) and type_name(h.get('type')).endswith(ending) for h in hooks
        )

    def _imports(self) -> None:
        imports = self.cfg.get('custom_imports') or {}
        names = imports.get('imports') or []
        names = [names] if isinstance(names, str) else list(names)
        if 'dpk_mm' not in names:
            self.cfg.custom_imports = dict(
                imports=[*names, 'dpk_mm'],
                allow_failed_imports=imports.get('allow_failed_imports', False),
            )


def _check_losses(distiller: Mapping[str, Any], made: Mapping[str, Any], method: str) -> None:
    """A setting of a loss that the method does not make would be a loss of its own, without a type."""
    for name, loss in (distiller.get('distill_losses') or {}).items():
        if loss is not None and 'type' not in loss:
            raise UsageError(
                f'model.distiller.distill_losses.{name} has {first_few(loss)} but no type, and model.method ({method}) '
                f'makes {first_few(made)}'
                f'{did_you_mean(name, made, 0.9) or "; name one of these, or give the loss a type."}'
            )


@contextmanager
def _imports_kept() -> Iterator[None]:
    """Lets what a config of Python imports stay as it is in merging: a class itself could not be written to a file."""
    before, ConfigDict.lazy = ConfigDict.lazy, True
    try:
        yield
    finally:
        ConfigDict.lazy = before


def _by(size: Size) -> str:
    return f'{size[0]}x{size[1]}'


def _on(size: Size, teacher_size: Size, feature: Feature) -> Feature:
    """A map of a teacher that sees resized images, as it is after it was resized back; tokens stay."""
    if feature.tokens:
        return feature
    cells = [
        max(1, round(n * own / given))
        for n, own, given in zip(feature.cells, size, teacher_size, strict=True)
    ]
    return feature._replace(cells=(cells[0], cells[1]))


def _arguments() -> set[str]:
    names: set[str] = set()
    for base in DPKDistill.__mro__:
        if '__init__' in vars(base) and base is not object:
            names |= {
                name
                for name, p in inspect.signature(base.__init__).parameters.items()
                if p.kind is not p.VAR_KEYWORD
            }
            if base.__name__ == 'BaseAlgorithm':
                break
    return names - {'self'}


ARGUMENTS = _arguments()
"""Names of the arguments of ``DPKDistill``, those of its bases included."""
