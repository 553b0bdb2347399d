"""Turns a short config into an ordinary one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmengine.config import Config, ConfigDict

from ...errors import UsageError
from .rows import Row


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
    """Whether a whole config has the short form: ``model.method`` is there."""
    return 'method' in (cfg.get('model') or {})


def complete(cfg: Config | ConfigDict | Mapping[str, Any]) -> Completed:
    """Completes a config of the short form by one forward pass of student and teacher.

    The short form, on top of the student's zoo config (data, schedule, hooks)::

        _base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
        model = dict(
            _delete_=True, _scope_='mmrazor', type='DPKDistill', architecture=_base_.model,
            teacher='mmdet::retinanet/retinanet_r101_fpn_2x_coco.py', method='dpk_fgd')

    ``architecture`` and ``teacher`` are each a model's config, the name of a zoo config (``'mmdet::...'``) or a file.
    With an ``architecture`` of the last two kinds and a config that has neither data nor schedule, those of the
    student's config are taken. ``teacher_ckpt`` is by default the checkpoint that the zoo publishes for a teacher given
    by name; None is an untrained teacher. ``method`` is a name, or a dict ``dict(type='dpk_fgd', ...)`` with changes of
    its settings. ``input_size`` (height, width) replaces the training size that is read from the pipeline. All other
    keys are those of ``DPKDistill``; what they say stands, ``distiller`` included, in which single keys can be given.

    Nothing is downloaded, nothing is drawn from the random generators, and the result depends on the config alone.

    Args:
        cfg: A whole config; it is not changed. One without ``model.method`` comes back as it is.

    Returns:
        The completed config, and what was chosen.

    Raises:
        UsageError: (a ValueError) If the method is unknown, or the two networks cannot learn from each other by it:
            tasks, classes or strides that differ, student and teacher exchanged; if the training size is not known.
    """
    if not is_short(cfg):
        whole = cfg if isinstance(cfg, Config) else Config(dict(cfg))
        return Completed(whole)
    raise UsageError('model.method: the short form is not implemented yet.')
