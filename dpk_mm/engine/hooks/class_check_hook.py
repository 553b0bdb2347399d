"""Classes of data, student and teacher are compared before the first step."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from dpk_mm.checkpoint.student_config import unwrap
from dpk_mm.errors import UsageError, first_few

from ...compat.checkpoint import load_checkpoint_file
from ...models.distillers.records import expand_records

_HEADS = re.compile(r'(.+\.)?(head|bbox_head|mask_head)(\.\d+)?')


class ClassCheckHook(Hook):
    """Stops a run whose head has fewer classes than the data, or whose teacher knows other ones.

    A head with too few classes takes what is over for background, or fails in the middle of an
    epoch. A teacher of other classes is wrong where the student takes over its head (``inherit``) or
    a recorder looks at one (logits); where only features are compared it is worth a warning.

    It is not named in configs: ``tools/train.py`` puts it into every run.

    Raises:
        UsageError: Before training, with both lists; before training, validation and test if the
            classes of a data set are a text, such as ``('cross')``.
    """

    priority = 'VERY_LOW'

    def before_train(self, runner: Runner) -> None:
        """Compares the classes; a data set that does not name them is not judged."""
        self.before_val(runner)
        _refuse_text(runner.train_dataloader, 'train_dataloader')
        classes = class_names(getattr(runner.train_dataloader.dataset, 'metainfo', None))
        if not classes:
            return
        model = unwrap(runner.model)
        self._check_heads(runner, getattr(model, 'architecture', model), classes)
        teacher_ckpt = getattr(model, 'teacher_ckpt', None)
        if teacher_ckpt:
            complaint = check_teacher_classes(runner.cfg, model, teacher_ckpt, classes)
            if complaint:
                runner.logger.warning(f'{complaint}; its features are used all the same')

    def before_val(self, runner: Runner) -> None:
        """Refuses classes that are a text."""
        if getattr(runner, 'val_loop', None) is not None:
            _refuse_text(runner.val_dataloader, 'val_dataloader')

    def before_test(self, runner: Runner) -> None:
        """Refuses classes that are a text."""
        _refuse_text(runner.test_dataloader, 'test_dataloader')

    @staticmethod
    def _check_heads(runner: Runner, student: Any, classes: list[str]) -> None:
        prefix = 'model.architecture' if 'architecture' in runner.cfg.get('model', {}) else 'model'
        for name, module in student.named_modules():
            count = getattr(module, 'num_classes', None)
            if not isinstance(count, int) or not _HEADS.fullmatch(name):
                continue
            complaint = (
                f'{prefix}.{name}.num_classes is {count}, but the training data have '
                f'{len(classes)} classes ({first_few(classes, most=5)}): make them equal'
            )
            if count < len(classes):
                raise UsageError(complaint)
            if count > len(classes):
                runner.logger.warning(complaint)


def check_teacher_classes(
    cfg: Config, model: Any, teacher_ckpt: str, classes: Sequence[str]
) -> str:
    """Compares the classes that a teacher was trained on with those of the data.

    Args:
        cfg: Of the distillation.
        model: That was built from it.
        teacher_ckpt: The teacher's checkpoint, which may name its classes.
        classes: Of the training data, in their order.

    Returns:
        What differs where features alone are compared; empty if nothing does, or a side names no classes.

    Raises:
        UsageError: If they differ, and the student inherits the teacher's head or a recorder looks at it.
    """
    meta = load_checkpoint_file(teacher_ckpt).get('meta')
    meta = meta if isinstance(meta, dict) else {}
    # mmdet 2.x and mmcls wrote them at the top of meta
    known = class_names(meta.get('dataset_meta')) or class_names(meta)
    if not known or known == list(classes):
        return ''
    first = next(
        (f'number {i} is {k} there and {c} here' for i, (k, c) in _pairs(known, classes)),
        f'it knows {len(known)}, the data have {len(classes)}',
    )
    complaint = (
        f'teacher_ckpt: {teacher_ckpt} was trained on other classes than those of '
        f'train_dataloader.dataset: {first}'
    )
    # what proposes regions knows objects only
    parts = [n for n in getattr(model, 'inherit', ()) if n.partition('.')[0] != 'rpn_head']
    heads = [part for part in parts if 'head' in part]
    if heads:
        raise UsageError(
            f'{complaint}; take {heads[0]} out of model.inherit, or give a fitting one.'
        )
    distiller = (cfg.get('model') or {}).get('distiller') or {}
    recorders = dict(
        records=expand_records(distiller.get('records'))['teacher'],
        teacher_recorders=distiller.get('teacher_recorders') or {},
    )
    for key, by_name in recorders.items():
        for name, recorder in by_name.items():
            if 'head' in str(recorder.get('source', '')):
                raise UsageError(
                    f'{complaint}; model.distiller.{key}.{name} looks at its head, so give '
                    'a teacher of the same classes.'
                )
    return complaint


def _refuse_text(loader: Any, name: str) -> None:
    """``('cross')`` is the text 'cross', which mmengine counts as five classes, and mmdet searches for parts of it.

    The name of a file is none any more: mmengine has read it when the data set was built.
    """
    meta = getattr(loader.dataset, 'metainfo', None)
    metas = meta if isinstance(meta, list) else [meta]  # mmdet's, of concatenated sets that differ
    keys = ('classes', 'CLASSES')
    for meta, key in itertools.product(metas, keys):
        text = meta.get(key) if isinstance(meta, dict) else None
        if isinstance(text, str):
            raise UsageError(
                f'{name}.dataset.metainfo.{key} is the text {text!r}, and a list of names was expected: write '
                f'({text!r},) with a comma, or [{text!r}].'
            )


def class_names(meta: Any) -> list[str]:
    """The class names of a data set's ``metainfo`` or a checkpoint's meta; empty if it has none."""
    if not isinstance(meta, dict):
        return []
    classes = meta.get('classes') or meta.get('CLASSES')
    if not isinstance(classes, (list, tuple)):
        return []
    return [str(name) for name in classes]


def _pairs(known: Sequence[str], classes: Sequence[str]) -> list[tuple[int, tuple[str, str]]]:
    pairs = enumerate(zip(known, classes, strict=False))
    return [(index, pair) for index, pair in pairs if pair[0] != pair[1]]
