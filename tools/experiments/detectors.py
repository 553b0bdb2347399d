"""Entries of the grids that ask what a gain of DPK + FGD is made of: controls and forms of DPK."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpk_mm.errors import UsageError, did_you_mean

#: The student trained without a teacher.
BASELINE = 'baseline'
TEACHER = 'teacher'
_LOSS = 'model.distiller.distill_losses'
_RATIO = 'default_hooks.mask_ratio'


@dataclass(frozen=True)
class Pair:
    """Where the configs of a data set are, and which levels have DPK.

    Attributes:
        configs: Role (``'teacher'``, ``'baseline'``, ``'fgd'``, ``'dpk'``, ``'sum'``) -> config.
        stages: Name of a level with DPK -> its index among the levels of FGD.
    """

    configs: Mapping[str, str]
    stages: Mapping[str, int]


def _folder(name: str) -> dict[str, str]:
    roles = dict(teacher='teacher', baseline='alone', fgd='fgd', dpk='dpk', sum='sum')
    return {role: f'configs/experiments/{name}/{file}.py' for role, file in roles.items()}


PAIRS: dict[str, Pair] = {
    'shapes': Pair(
        _folder('shapes')
        | dict(
            teacher='configs/mini/faster_rcnn_teacher.py',
            baseline='configs/mini/faster_rcnn_none.py',
        ),
        dict(P4=2, P5=3),
    ),
    'hituav': Pair(_folder('hituav'), dict(P4=2, P5=3)),
    # the same on the levels where its objects are
    'hituav_fine': Pair(
        _folder('hituav')
        | dict(
            dpk='configs/experiments/hituav/dpk_fine.py',
            sum='configs/experiments/hituav/sum_fine.py',
        ),
        dict(P2=0, P3=1),
    ),
    'deeppcb': Pair(_folder('deeppcb'), dict(P3=1, P4=2)),
}


# Student and modules have one optimizer on the drawn shapes, and so one norm that gradients are clipped by: large
# gradients of new modules then shorten the student's steps. Here each has its own, with the same settings.
_ADAMW = {'type': 'AdamW', 'lr': 1e-3, 'weight_decay': 0.01}
_CLIPPED_APART: dict[str, Any] = {
    'optim_wrapper._delete_': True,
    'optim_wrapper.type': 'OptimWrapper',
    'optim_wrapper.constructor': 'mmrazor.DPKOptimWrapperConstructor',
    'optim_wrapper.clip_grad.max_norm': 10,
    'optim_wrapper.clip_grad.norm_type': 2,
    **{
        f'optim_wrapper.{part}.optimizer.{key}': value
        for part in ('architecture', 'distiller')
        for key, value in _ADAMW.items()
    },
}


def rows(pair: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Name of a control or form -> its role and options, for one data set.

    A name ends with the factor of DPK's levels where it is not 1: ``dpk_x10``. ``fgd_x10`` has the factor on the same
    levels of FGD alone, ``fgd_without`` leaves them out.
    """
    stages = find_pair(pair).stages
    levels = [f'{_LOSS}.loss_fgd.levels.{index}.weight' for index in stages.values()]

    def each(**values: Any) -> dict[str, Any]:
        return {
            f'{_LOSS}.loss_dpk.transforms.{stage}.{key}': value
            for stage in stages
            for key, value in values.items()
        }

    def fixed(ratio: float) -> dict[str, Any]:
        return {
            f'{_RATIO}._delete_': True,
            f'{_RATIO}.type': 'mmrazor.FixedMaskRatioHook',
            f'{_RATIO}.ratio': ratio,
        }

    def share(value: float) -> dict[str, Any]:
        return share_options('loss_dpk', value)

    depth = lambda blocks: each(encoder_depth=blocks, decoder_depth=blocks)  # noqa: E731
    found: dict[str, tuple[str, dict[str, Any]]] = {
        BASELINE: (BASELINE, {}),
        'fgd': ('fgd', {}),
        'fgd_without': ('fgd', dict.fromkeys(levels, 0.0)),
        'sum': ('sum', {}),
        'dpk': ('dpk', {}),
        'no_prior': ('dpk', each(prior='none')),
        'zeros': ('dpk', each(prior='zeros')),
        'teacher_only': ('dpk', fixed(1.0)),
        # forms
        'warmup': ('dpk', {f'{_LOSS}.loss_dpk.module_warmup': 100}),
        'tied': ('dpk', each(student_embed='tied')),
        'orthogonal': ('dpk', each(student_embed='orthogonal')),
        'shared_encoder': ('dpk', each(teacher_encoder='shared')),
        'average_encoder': ('dpk', each(teacher_encoder='average')),
        'foreground_given': ('dpk', each(**{'mask.type': 'scores', 'mask.score': 'foreground'})),
        'foreground_withheld': (
            'dpk',
            each(**{'mask.type': 'scores', 'mask.score': 'foreground', 'mask.opposite': True}),
        ),
    }
    found.update({f'fixed_{ratio:g}': ('dpk', fixed(ratio)) for ratio in (0.1, 0.5, 0.9)})
    found.update({f'blocks_{n}_{n}': ('dpk', depth(n)) for n in (1, 2, 4)})
    found.update({f'share_{s:g}': ('dpk', share(s)) for s in (0.03, 0.1, 0.3, 1.0, 3.0)})
    found.update(
        {
            f'no_prior_share_{s:g}': ('dpk', {**each(prior='none'), **share(s)})
            for s in (0.03, 0.1, 0.3, 1.0, 3.0)
        }
    )
    for name, (role, options) in list(found.items()):
        for factor in (3, 10, 30):
            if name == 'fgd':
                found[f'{name}_x{factor}'] = (role, dict.fromkeys(levels, float(factor)))
            elif role in ('dpk', 'sum') and 'share_' not in name:
                found[f'{name}_x{factor}'] = (role, {**options, **each(weight=float(factor))})
    # the other pairs have optimizers of their own for student and modules anyway
    if pair == 'shapes':
        for name in ('fgd', 'fgd_without', 'dpk_x10', 'no_prior_x10', 'teacher_only_x10'):
            role, options = found[name]
            found[f'{name}_clipped_apart'] = (role, {**options, **_CLIPPED_APART})
            # twice the learning rate of the others
            found[f'{name}_lr_2e-3'] = (role, {**options, 'optim_wrapper.optimizer.lr': 2e-3})
    return found


def share_options(loss: str, share: float) -> dict[str, Any]:
    """Options that put a ``GradientShareHook`` into a config."""
    hook = 'default_hooks.gradient_share'
    return {
        f'{hook}.type': 'mmrazor.GradientShareHook',
        f'{hook}.loss': loss,
        f'{hook}.share': share,
    }


#: Method -> the rows of :func:`rows` that are its settings. Every method that is tuned has three. Shares of the
#: gradient (``share_0.3``) are not among them, see PLAN.md.
FORMS: dict[str, tuple[str, ...]] = {
    'dpk_apart': ('dpk_x3', 'dpk_x10', 'dpk_x30'),
    'no_prior_apart': ('no_prior_x3', 'no_prior_x10', 'no_prior_x30'),
}
WEIGHTS = (0.3, 1.0, 3.0)
RATES = (2e-3, 4e-3, 8e-3)


def setting_entry(
    pair: str,
    method: str,
    setting: float | str,
    seed: int,
    width: int,
    fgd_weight: float,
    named: bool = True,
) -> dict[str, Any]:
    """The entry of a method with one of its settings.

    Args:
        pair: Key of ``PAIRS``.
        method: ``'baseline'``, ``'fgd'``, ``'dpk'`` or a key of ``FORMS``.
        setting: The learning rate of the baseline, the factor of FGD or of the whole DPK + FGD, or a row of the form.
        seed: Of its training.
        width: The teacher's.
        fgd_weight: Factor of FGD in the forms, on their levels without DPK: that which was chosen for FGD alone.
        named: Whether the setting is in the name and the tables.
    """
    if method == BASELINE:
        what, row, options = 'lr', BASELINE, {'optim_wrapper.optimizer.lr': setting}
    elif method in FORMS:
        what, row, options = 'form', str(setting), {f'{_LOSS}.loss_dpk.loss_weight': fgd_weight}
    else:
        what, row, options = 'weight', method, {f'{_LOSS}.loss_{method}.loss_weight': setting}
    name = f'{method}-{what}-{setting}' if named else method
    entry = student(pair, row, seed, width, options, name=name)
    entry['method'] = method
    entry['setting'] = {what: setting} if named else {}
    return entry


def settings(
    pair: str, width: int, seeds: Sequence[int], fgd_weight: float | str | None
) -> list[dict[str, Any]]:
    """The trainings that settings are chosen by: three of every method, under one teacher.

    FGD and the paper's form come first: the others take ``fgd_weight`` from them, and are left out while it is None.
    """
    tried: dict[str, tuple[float | str, ...]] = {BASELINE: RATES, 'fgd': WEIGHTS, 'dpk': WEIGHTS}
    entries = [teacher(pair, width)]
    for part in (tried, {} if fgd_weight is None else FORMS):
        entries += [
            setting_entry(pair, method, setting, seed, width, float(fgd_weight or 1))
            for seed in seeds
            for method, values in part.items()
            for setting in values
        ]
    return entries


#: Forms that `hituav_forms` tries -> which levels have DPK (see ``PAIRS``), the row, and more of the modules.
CANDIDATES: dict[str, tuple[str, str, dict[str, Any]]] = {
    'sum': ('', 'sum', {}),
    'dpk_fine': ('_fine', 'dpk', {}),
    'sum_fine': ('_fine', 'sum', {}),
    'sum_fine_tied': ('_fine', 'sum', dict(student_embed='tied', teacher_encoder='shared')),
}


def form(
    pair: str,
    name: str,
    seed: int,
    width: int,
    fgd_weight: float,
    dpk_weight: float,
    prior: bool = True,
) -> dict[str, Any]:
    """The entry of a form of DPK + FGD, or of its control without a prior.

    Args:
        pair: Key of ``PAIRS``.
        name: Key of ``CANDIDATES``.
        seed: Of its training.
        width: The teacher's.
        fgd_weight: Of FGD on the student's own feature, where the form has it.
        dpk_weight: Of DPK + FGD.
        prior: Whether the teacher's tokens are given.

    Raises:
        UsageError: If there is no such form, or the data set has no such levels.
    """
    if name not in CANDIDATES:
        raise UsageError(
            f'there is no form {name!r}{did_you_mean(name, CANDIDATES) or "; see CANDIDATES."}'
        )
    levels, row, modules = CANDIDATES[name]
    options: dict[str, Any] = {f'{_LOSS}.loss_dpk.loss_weight': dpk_weight}
    if row == 'sum':
        options = {f'{_LOSS}.loss_fgd.loss_weight': fgd_weight, **options}
    for stage in find_pair(pair + levels).stages:
        for key, value in modules.items():
            options[f'{_LOSS}.loss_dpk.transforms.{stage}.{key}'] = value
        if not prior:
            options[f'{_LOSS}.loss_dpk.transforms.{stage}.prior'] = 'none'
    return student(
        pair + levels, row, seed, width, options, name=name if prior else f'no_prior_{name}'
    )


def decision(
    pair: str,
    chosen: Mapping[str, float | str],
    seeds: Sequence[int],
    widths: Sequence[int],
    form_name: str | None = None,
) -> list[dict[str, Any]]:
    """The trainings that decide: every method with its chosen setting, the first teacher before the others.

    The others answer whether a student gets worse with the larger teacher, which is asked of FGD and of what has a
    prior; FGD without DPK's levels, which has no setting of its own, is under the first one.

    Args:
        pair: Key of ``PAIRS``.
        chosen: Method -> its setting.
        seeds: Of the students.
        widths: Of the teachers.
        form_name: Key of ``CANDIDATES``, which is a method more, ``dpk_form``, and without a prior ``no_prior_form``,
            with the weights that were chosen for FGD and for DPK.
    """

    def forms(seed: int, width: int, names: Sequence[str]) -> list[dict[str, Any]]:
        found = []
        for name in names if form_name is not None else ():
            prior = name == 'dpk_form'
            entry = form(pair, str(form_name), seed, width, weight, float(chosen['dpk']), prior)
            found.append({**entry, 'method': name, 'name': f'{name}-w{width}-s{seed}'})
        return found

    first, *others = widths
    weight = float(chosen['fgd'])
    entries = [teacher(pair, first)]
    for seed in seeds:
        entries += [
            setting_entry(pair, method, setting, seed, first, weight, named=False)
            for method, setting in chosen.items()
        ]
        entries.append(
            student(pair, 'fgd_without', seed, first, {f'{_LOSS}.loss_fgd.loss_weight': weight})
        )
        entries += forms(seed, first, ('dpk_form', 'no_prior_form'))
    asked = [m for m in chosen if m != BASELINE and not m.startswith('no_prior')]
    for width in others:
        entries.append(teacher(pair, width))
        for seed in seeds:
            entries += [
                setting_entry(pair, method, chosen[method], seed, width, weight, named=False)
                for method in asked
            ]
            entries += forms(seed, width, ('dpk_form',))
    return entries


def find_pair(pair: str) -> Pair:
    """The configs of a data set.

    Raises:
        UsageError: If there is none of this name.
    """
    if pair not in PAIRS:
        raise UsageError(
            f'there is no data set {pair!r} in tools/experiments/detectors.py, but {", ".join(PAIRS)}.'
        )
    return PAIRS[pair]


def teacher(pair: str, width: int = 32, seed: int = 0) -> dict[str, Any]:
    """The entry of a teacher.

    Args:
        pair: Key of ``PAIRS``.
        width: Channels of its first stage; the student has 8.
        seed: Of its training.
    """
    return dict(
        name=f'teacher-w{width}-s{seed}',
        config=find_pair(pair).configs[TEACHER],
        method=TEACHER,
        label=f'width {width}',
        seed=seed,
        options=_backbone('model', width),
    )


def student(
    pair: str,
    row: str,
    seed: int,
    width: int = 32,
    options: Mapping[str, Any] | None = None,
    name: str | None = None,
    inherit: bool = True,
) -> dict[str, Any]:
    """The entry of a student.

    Args:
        pair: Key of ``PAIRS``.
        row: Name of a control or form, see :func:`rows`.
        seed: Of its training.
        width: The teacher's.
        options: More ``--cfg-options``, which go over the row's.
        name: Of the method in the tables, where it is not that of the row.
        inherit: Whether the student starts from the teacher's output convolutions and heads; the one trained without a
            teacher inherits nothing either way.

    Raises:
        UsageError: If there is no such row.
    """
    known = rows(pair)
    if row not in known:
        raise UsageError(
            f'there is no row {row!r}{did_you_mean(row, known) or "; see tools/experiments/detectors.py."}'
        )
    role, changes = known[row]
    method = name or (row if inherit or row == BASELINE else f'{row}_not_inheriting')
    entry = dict(
        name=f'{method}-s{seed}',
        config=find_pair(pair).configs[role],
        method=method,
        seed=seed,
        options={**changes, **(options or {})},
    )
    if role != BASELINE:
        entry['name'] = f'{method}-w{width}-s{seed}'
        entry['teacher'] = f'teacher-w{width}-s0'
        entry['options'] = {**_backbone('model.teacher', width), **entry['options']}
        if not inherit:
            entry['options']['model.inherit'] = None
    return entry


def students(
    pair: str, names: Sequence[str], seeds: Sequence[int], **kwargs: Any
) -> list[dict[str, Any]]:
    """The entries of several rows, seed by seed: a grid that is stopped early has whole comparisons."""
    return [student(pair, row, seed, **kwargs) for seed in seeds for row in names]


def _backbone(prefix: str, width: int) -> dict[str, Any]:
    return {
        f'{prefix}.backbone.base_channels': width,
        f'{prefix}.neck.in_channels': [width, 2 * width, 4 * width, 8 * width],
    }
