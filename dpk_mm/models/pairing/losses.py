"""The losses of a method for two networks that were looked at."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ...errors import UsageError, did_you_mean
from .. import methods
from ..methods.detectors import PYRAMID_WEIGHTS
from ..methods.losses import Losses
from ..pairs import Pair, TransformSize
from .levels import LevelPair
from .probe import Look
from .transforms import stages_of, transform_of


class Method(NamedTuple):
    """How a method of :mod:`dpk_mm.models.methods` is fitted to two networks.

    Attributes:
        tasks: Of which tasks the networks may be.
        record: What it compares: ``'feats'``, ``'logits'`` or ``'embedding'``.
        make: Its losses, by the fit and the settings that the config gives.
        which: Which levels of a classifier: ``'all'``, ``'last'`` or ``'second_last'``.
        tokens: Whether it takes ``[N, L, C]``.
    """

    tasks: tuple[str, ...]
    record: str
    make: Callable[[Fit, dict[str, Any]], Losses]
    which: str = 'last'
    tokens: bool = False


class Fit(NamedTuple):
    """What the losses are made from.

    Attributes:
        levels: The pairs of levels that are recorded, shallow first.
        chosen: Those that the method compares.
        student: The look at the student.
        teacher: The look at the teacher.
    """

    levels: list[LevelPair]
    chosen: list[LevelPair]
    student: Look
    teacher: Look

    @property
    def family(self) -> str:
        """``'two_stage'``, ``'one_stage'`` or ``'anchor_free'``, of the student."""
        return self.student.attributes.get('family', 'one_stage')

    def row(self, stages: Sequence[LevelPair]) -> Pair:
        """A row for the functions of :mod:`dpk_mm.models.methods`; :func:`place` puts in what a row cannot say."""
        sizes = {}
        for level in stages:
            arguments = transform_of(level)
            rows, _ = arguments['position_grid']
            keys = [key for key in TransformSize._fields if key != 'grid']
            sizes[level.name] = TransformSize(*(arguments[key] for key in keys), grid=rows)
        index = {level.name: self.levels.index(level) for level in stages}
        detector = self.student.task == 'detector'
        return Pair(sizes, index, levels=tuple(range(len(self.levels))) if detector else ())


_PYRAMIDS = dict(two_stage='faster_rcnn', one_stage='retinanet', anchor_free='retinanet')
_FGD = dict(
    two_stage='fgd_two_stage',
    one_stage='fgd_one_stage_code',
    anchor_free='fgd_anchor_free_code',
)
_DPK_FGD = dict(
    two_stage='dpk_two_stage_text',
    one_stage='dpk_one_stage_text',
    anchor_free='fgd_anchor_free_code',
)


def _with(settings: dict[str, Any], **defaults: Any) -> dict[str, Any]:
    return defaults | settings


def _fgd(fit: Fit, settings: dict[str, Any]) -> Losses:
    return _on_levels(
        fit, methods.fgd(fit.row(fit.levels), **_with(settings, weights=_FGD[fit.family]))
    )


def _pyramid(name: str, function: Callable[..., Losses]) -> Callable[[Fit, dict[str, Any]], Losses]:
    def make(fit: Fit, settings: dict[str, Any]) -> Losses:
        published = PYRAMID_WEIGHTS.get(name, {}).get(_PYRAMIDS[fit.family])
        if published is not None:
            settings = _with(settings, loss_weight=published)
        if name == 'MGD':
            settings = _with(settings, mask_ratio=0.45 if fit.family == 'two_stage' else 0.65)
        return _on_levels(fit, function(fit.row(fit.levels), **settings))

    make.__wrapped__ = function  # type: ignore[attr-defined]
    return make


def _dpk(fit: Fit, settings: dict[str, Any]) -> Losses:
    stages = stages_of(fit.chosen, fit.student.task == 'classifier')
    losses = methods.dpk(fit.row(stages), **settings)
    return _on_stages(fit, stages, losses)


def _dpk_fgd(fit: Fit, settings: dict[str, Any]) -> Losses:
    stages = stages_of(fit.levels)
    settings = _with(settings, weights=_DPK_FGD[fit.family])
    losses = methods.dpk_fgd(fit.row(stages), **settings)
    for loss in losses.values():
        _on_levels(fit, dict(criterion=loss['criterion']))
    return _on_stages(fit, stages, losses)


def _maps(
    function: Callable[..., Losses], **defaults: Any
) -> Callable[[Fit, dict[str, Any]], Losses]:
    def make(fit: Fit, settings: dict[str, Any]) -> Losses:
        losses = function(fit.row(fit.chosen), **_with(settings, **defaults))
        for loss in losses.values():
            loss['stages'] = [_stage(fit, stage) for stage in loss['stages']]
        return losses

    make.__wrapped__ = function  # type: ignore[attr-defined]
    return make


def _plain(function: Callable[..., Losses]) -> Callable[[Fit, dict[str, Any]], Losses]:
    def make(fit: Fit, settings: dict[str, Any]) -> Losses:
        return function(**settings)

    make.__wrapped__ = function  # type: ignore[attr-defined]
    return make


def _cc(fit: Fit, settings: dict[str, Any]) -> Losses:
    widths = dict(student_channels=fit.student.embedding, teacher_channels=fit.teacher.embedding)
    return methods.cc(**_with(settings, **widths))


def _stage(fit: Fit, stage: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of ``stages``, whose ``index`` counts the recorded levels, with what both sides have there."""
    entry = dict(stage)
    place = entry.pop('index')
    level = fit.levels[place]
    for side, feature in zip(SIDES, level, strict=True):
        if feature.extra_tokens:
            entry[f'{side}_extra_tokens'] = feature.extra_tokens
    return _indices(level, place) | entry


def _on_levels(fit: Fit, losses: Losses) -> Losses:
    """Puts indices and channels of both sides into ``levels``."""
    for loss in losses.values():
        counts = {
            side: _most_common([getattr(x, side).channels for x in fit.levels]) for side in SIDES
        }
        loss.update({f'{side}_channels': count for side, count in counts.items()})
        loss['levels'] = [_level(level, place, counts) for place, level in enumerate(fit.levels)]
    return losses


def _level(level: LevelPair, place: int, counts: Mapping[str, int]) -> int | dict[str, Any]:
    entry: dict[str, Any] = _indices(level, place)
    for side in SIDES:
        channels = getattr(level, side).channels
        if channels != counts[side]:
            entry[f'{side}_channels'] = channels
    return entry['index'] if [*entry] == ['index'] else entry


def _indices(level: LevelPair, place: int) -> dict[str, int]:
    own, given = (place if f.index is None else f.index for f in level)
    return dict(index=own) if own == given else dict(student_index=own, teacher_index=given)


def _on_stages(fit: Fit, stages: Sequence[LevelPair], losses: Losses) -> Losses:
    """Puts indices, channels, tokens and grids of both sides into ``transforms``."""
    by_name = {level.name: level for level in stages}
    for loss in losses.values():
        for name, entry in loss['transforms'].items():
            level = by_name[name]
            entry.pop('index')
            chosen = transform_of(level)
            changed = {k: v for k, v in entry.items() if k not in chosen}
            kept = {k: entry[k] for k in chosen if k in entry}
            if (
                kept['position_grid'] == (chosen['position_grid'][0],) * 2
            ):  # the row's, which is square
                kept['position_grid'] = chosen['position_grid']
            loss['transforms'][name] = (
                _indices(level, fit.levels.index(level)) | chosen | kept | changed
            )
        if fit.student.task == 'classifier':
            loss['transforms'] = {'last': loss['transforms'][stages[-1].name]}
    return losses


def _most_common(numbers: Sequence[int]) -> int:
    return max(dict.fromkeys(numbers), key=numbers.count)


SIDES = ('student', 'teacher')
_BOTH = ('classifier', 'detector')
_CLASSIFIER = ('classifier',)
_DETECTOR = ('detector',)

METHODS: dict[str, Method] = {
    'dpk': Method(_BOTH, 'feats', _dpk, tokens=True),
    'dpk_fgd': Method(_DETECTOR, 'feats', _dpk_fgd),
    'fgd': Method(_DETECTOR, 'feats', _fgd),
    'pkd': Method(_DETECTOR, 'feats', _pyramid('PKD', methods.pkd)),
    'cwd': Method(_DETECTOR, 'feats', _pyramid('CWD', methods.cwd)),
    'mgd': Method(_DETECTOR, 'feats', _pyramid('MGD', methods.mgd)),
    'gid': Method(_DETECTOR, 'feats', _pyramid('GID', methods.gid)),
    'kd': Method(_CLASSIFIER, 'logits', _plain(methods.kd)),
    'kd_standardized': Method(_CLASSIFIER, 'logits', _plain(methods.kd_standardized)),
    'dkd': Method(_CLASSIFIER, 'logits', _plain(methods.dkd)),
    'nkd': Method(_CLASSIFIER, 'logits', _plain(methods.nkd)),
    'dist': Method(_CLASSIFIER, 'logits', _plain(methods.dist)),
    'hard': Method(_CLASSIFIER, 'logits', _plain(methods.hard)),
    'pkt': Method(_CLASSIFIER, 'embedding', _plain(methods.pkt)),
    'rkd': Method(_CLASSIFIER, 'embedding', _plain(methods.rkd)),
    'cc': Method(_CLASSIFIER, 'embedding', _cc),
    'fitnet': Method(_CLASSIFIER, 'feats', _maps(methods.fitnet, stages=None), 'second_last'),
    'ft': Method(_CLASSIFIER, 'feats', _maps(methods.ft, stages=None)),
    'ickd': Method(_CLASSIFIER, 'feats', _maps(methods.ickd, stages=None)),
    'at': Method(_CLASSIFIER, 'feats', _maps(methods.at), 'all'),
    'vid': Method(_CLASSIFIER, 'feats', _maps(methods.vid), 'all'),
    'afd': Method(_CLASSIFIER, 'feats', _maps(methods.afd), 'all'),
    'reviewkd': Method(_CLASSIFIER, 'feats', _maps(methods.reviewkd, pooled_index=None), 'all'),
    'sp': Method(_CLASSIFIER, 'feats', _plain(methods.sp), tokens=True),
    'manifold': Method(_CLASSIFIER, 'feats', _maps(methods.manifold), tokens=True),
}
"""The methods that one look at both networks is enough for."""

_NEED_MORE = dict(
    crd='the number of training images',
    tofd='heads beside the student',
    ab='features before the ReLU',
    ofd='features before the ReLU',
    fgfi='the anchors of a data set',
)


def parse_method(value: Any) -> dict[str, dict[str, Any]]:
    """Name -> settings of the methods that ``model.method`` names.

    Args:
        value: ``'dpk_fgd'``, ``'kd+dpk'``, ``dict(type='kd', tau=4.0)``, or a list of these.

    Raises:
        UsageError: (a ValueError) If a name is unknown, or stands twice.
    """
    entries = list(value) if isinstance(value, (list, tuple)) else [value]
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        settings: dict[str, Any] = {}
        if isinstance(entry, Mapping):
            settings = {k: v for k, v in entry.items() if k not in ('type', '_delete_')}
            entry = entry.get('type')
        if not isinstance(entry, str):
            raise UsageError(
                f"model.method is {value!r}, but a name such as 'dpk_fgd' or 'kd+dpk', dict(type='kd', tau=4.0), or "
                'a list of these was expected.'
            )
        for name in entry.split('+'):
            name = name.strip()
            if name in _NEED_MORE:
                raise UsageError(
                    f'model.method: {name} needs {_NEED_MORE[name]}, which a look at both networks does not give; '
                    'write its loss into distiller.distill_losses, see docs/methods.md.'
                )
            if name not in METHODS:
                raise UsageError(
                    f'model.method: there is no method {name!r}{did_you_mean(name, METHODS) or "."} There are '
                    f'{", ".join(METHODS)}, and sums such as kd+dpk.'
                )
            if name in found:
                raise UsageError(f'model.method names {name} twice: leave one of them out.')
            found[name] = dict(settings)
    return found


def levels_for(name: str, levels: Sequence[LevelPair], task: str) -> list[LevelPair]:
    """Those of all pairs of levels that a method compares."""
    which = METHODS[name].which
    if task == 'detector' or which == 'all':
        return list(levels)
    return list(levels[-2:][:1] if which == 'second_last' else levels[-1:])


def make_losses(name: str, settings: dict[str, Any], fit: Fit) -> Losses:
    """``distill_losses`` of one method.

    Raises:
        UsageError: (a ValueError) If a setting is unknown.
    """
    method = METHODS[name]
    try:
        return method.make(fit, dict(settings))
    except TypeError as error:
        function = getattr(method.make, '__wrapped__', getattr(methods, name))
        known = [
            key for key in inspect.signature(function).parameters if key not in ('pair', 'kwargs')
        ]
        raise UsageError(
            f'model.method: {name} does not take these settings ({error}); it has {", ".join(known)}.'
        ) from error
