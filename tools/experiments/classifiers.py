"""Entries of the grids that ask what forms of DPK bring to a classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpk_mm.errors import UsageError, did_you_mean

from .detectors import BASELINE, TEACHER, share_options

_LOSS = 'model.distiller.distill_losses.loss_feat'


@dataclass(frozen=True)
class Pair:
    """A student, its teachers and the stages that are distilled.

    Attributes:
        folder: Of the configs, in ``configs/experiments``.
        stages: Of DPK, as the configs name them.
        sizes: Width of a teacher -> options of its network, without the prefix of the model.
        stage_channels: Stage -> channels of the teacher, as a multiple of its width.
    """

    folder: str
    stages: tuple[str, ...]
    sizes: Mapping[int, Mapping[str, Any]]
    stage_channels: Mapping[str, int]


def _cifar(width: int) -> dict[str, Any]:
    widths = [width, width, 2 * width, 4 * width]
    return {'backbone.arch.widths': widths, 'head.in_channels': 4 * width}


def _blocks(stage: str, count: int) -> dict[str, int]:
    """Blocks of encoders and decoder: one is the size that the README recommends, and takes half the time of two."""
    parts = ('encoder_depth', 'decoder_depth')
    return {f'{_LOSS}.transforms.{stage}.{part}': count for part in parts}


def _fashion(width: int) -> dict[str, Any]:
    return {
        'backbone.stem_channels': width,
        'backbone.base_channels': width,
        'head.in_channels': 8 * width,
    }


PAIRS: dict[str, Pair] = {
    'cifar': Pair(
        'cifar',
        ('second_last', 'last'),
        {width: _cifar(width) for width in (12, 24)},
        dict(second_last=2, last=4),
    ),
    'fashion': Pair(
        'fashion', ('last',), {width: _fashion(width) for width in (16, 24)}, dict(last=8)
    ),
}

#: Settings of each method: factors of the loss, or shares of the gradient.
WEIGHTS = (10.0, 50.0, 250.0)
SHARES = (0.1, 0.3, 1.0)
RATES = {'cifar': (0.025, 0.05, 0.1), 'fashion': (0.1, 0.2, 0.4)}
KD_WEIGHTS = (0.4, 0.8, 1.6)
METHODS: dict[str, tuple[str, str]] = {
    # method -> (config, what is set)
    BASELINE: ('alone', 'lr'),
    'kd': ('kd', 'kd weight'),
    'fitnets': ('fitnets', 'weight'),
    'dpk': ('dpk', 'weight'),
    'no_prior': ('dpk', 'weight'),
    'fitnets_share': ('fitnets', 'share'),
    'dpk_share': ('dpk', 'share'),
    'no_prior_share': ('dpk', 'share'),
}


#: Methods of a decision that the best form adds: with and without a prior.
FORM = ('dpk_form', 'no_prior_form')
#: Forms that give the student something of the teacher as input, other than the paper's.
CANDIDATES = (
    'fixed_0.5',
    'blocks_2_2',
    'warmup',
    'orthogonal',
    'shared_encoder',
    'average_encoder',
    'normalized',
    'head',
)


def forms(pair: str, weight: float = 50.0) -> dict[str, dict[str, Any]]:
    """Name of a control or form of DPK -> its options, for one pair; ``dpk`` is the paper's form.

    Args:
        pair: Key of ``PAIRS``.
        weight: Of the hybrids' squared error; a twenty-fifth of it where that is a share of the teacher's variance,
            which is larger than the error itself (how much was not measured).
    """
    stages = find_pair(pair).stages

    def each(**values: Any) -> dict[str, Any]:
        return {
            f'{_LOSS}.transforms.{stage}.{key}': value
            for stage in stages
            for key, value in values.items()
        }

    ratio = 'default_hooks.mask_ratio'
    # The hybrids' error has the weight of the loss, the divergence of the teacher's decisions that of KD.
    head = {
        f'{_LOSS}.criterion.type': 'TeacherHeadLoss',
        f'{_LOSS}.criterion.feature_weight': weight,
        f'{_LOSS}.criterion.head_weight': 0.8,
        f'{_LOSS}.loss_weight': 1.0,
    }
    return {
        'dpk': {},
        'no_prior': each(prior='none'),
        'zeros': each(prior='zeros'),
        'fixed_0.5': {
            f'{ratio}._delete_': True,
            f'{ratio}.type': 'mmrazor.FixedMaskRatioHook',
            f'{ratio}.ratio': 0.5,
        },
        'blocks_2_2': each(encoder_depth=2, decoder_depth=2),
        'warmup': {f'{_LOSS}.module_warmup': 100},
        'orthogonal': each(student_embed='orthogonal'),
        'shared_encoder': each(teacher_encoder='shared'),
        'average_encoder': each(teacher_encoder='average'),
        'normalized': each(normalize_target=True) | {f'{_LOSS}.loss_weight': weight / 25},
        'head': head,
        'head_no_prior': head | each(prior='none'),
    }


def form(
    pair: str,
    name: str,
    weight: float,
    seed: int,
    width: int,
    config: str = 'dpk',
    prior: bool = True,
) -> dict[str, Any]:
    """The entry of a form of DPK, or of the head's loss on FitNets.

    Args:
        pair: Key of ``PAIRS``.
        name: Key of :func:`forms`.
        weight: Of the hybrids' squared error.
        seed: Of its training.
        width: The teacher's.
        config: ``'dpk'`` or ``'fitnets'``.
        prior: Whether the teacher's tokens are given.
    """
    known = forms(pair, weight)
    if name not in known:
        raise UsageError(
            f'there is no form {name!r}{did_you_mean(name, known) or "; see forms()."}'
        )
    entry = student(pair, config, weight, seed, width, named=False)
    method = name if config == 'dpk' else f'{config}_{name}'
    entry['options'].update(known[name])
    if not prior:
        entry['options'].update(known['no_prior'])
    return {**entry, 'method': method, 'name': f'{method}-w{width}-s{seed}'}


def on_dist(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The same student with DIST in the place of KD: its config has ``dist_`` before its name, or is ``dist`` for KD.

    Args:
        entry: Of :func:`student` or :func:`form`, of a method with a teacher; a weight of KD in it is dropped.
    """
    config = Path(str(entry['config']))
    name = 'dist' if config.stem == 'kd' else f'dist_{config.stem}'
    method = 'dist' if config.stem == 'kd' else f'dist_{entry["method"]}'
    options = {k: v for k, v in entry['options'].items() if '.loss_kd.' not in k}
    return dict(
        entry,
        config=config.with_name(f'{name}.py').as_posix(),
        method=method,
        name=f'{method}-{entry["teacher"].split("-")[1]}-s{entry["seed"]}',
        options=options,
    )


def settings_of(pair: str, method: str) -> tuple[float, ...]:
    """The settings of a method that are tried, as many of each."""
    what = METHODS[method][1]
    return {'lr': RATES[pair], 'kd weight': KD_WEIGHTS, 'weight': WEIGHTS, 'share': SHARES}[what]


def teacher(pair: str, width: int, seed: int = 0) -> dict[str, Any]:
    """The entry of a teacher.

    Args:
        pair: Key of ``PAIRS``.
        width: Of its first stage, one of the pair's.
        seed: Of its training.
    """
    return dict(
        name=f'teacher-w{width}-s{seed}',
        config=f'configs/experiments/{find_pair(pair).folder}/teacher.py',
        method=TEACHER,
        label=f'width {width}',
        seed=seed,
        options={f'model.{key}': value for key, value in PAIRS[pair].sizes[width].items()},
    )


def student(
    pair: str,
    method: str,
    setting: float,
    seed: int,
    width: int,
    named: bool = True,
) -> dict[str, Any]:
    """The entry of a student.

    Args:
        pair: Key of ``PAIRS``.
        method: Key of ``METHODS``.
        setting: Its weight, share or learning rate.
        seed: Of its training.
        width: The teacher's.
        named: Whether the setting is in the name and the tables.

    Raises:
        UsageError: If there is no such method.
    """
    if method not in METHODS:
        raise UsageError(
            f'there is no method {method!r}{did_you_mean(method, METHODS) or "; see METHODS."}'
        )
    found = find_pair(pair)
    config, what = METHODS[method]
    words = [method, *([f'{what}-{setting:g}'.replace(' ', '-')] if named else [])]
    options: dict[str, Any] = {}
    if what == 'lr':
        options['optim_wrapper.optimizer.lr'] = setting
    elif what == 'kd weight':
        options['model.distiller.distill_losses.loss_kd.loss_weight'] = setting
    elif what == 'weight':
        options[f'{_LOSS}.loss_weight'] = setting
    else:
        options.update(share_options('loss_feat', setting))
    entry: dict[str, Any] = dict(
        config=f'configs/experiments/{found.folder}/{config}.py',
        method=method,
        seed=seed,
        setting={what: setting} if named else {},
        options=options,
    )
    if method != BASELINE:
        words.append(f'w{width}')
        entry['teacher'] = f'teacher-w{width}-s0'
        for key, value in found.sizes[width].items():
            options[f'model.teacher.{key}'] = value
        if config != 'kd':
            for stage in found.stages:
                options[f'{_LOSS}.transforms.{stage}.teacher_channels'] = (
                    found.stage_channels[stage] * width
                )
                if config == 'dpk':
                    options.update(_blocks(stage, 1))
                if method.startswith('no_prior'):
                    options[f'{_LOSS}.transforms.{stage}.prior'] = 'none'
            if found.folder == 'fashion':  # whose configs measure nothing by themselves
                hook = 'default_hooks.loss_gradient'
                options[f'{hook}.type'] = 'mmrazor.LossGradientHook'
                options[f'{hook}.interval'] = 20
                options[f'{hook}.by_level'] = True
    entry['name'] = '-'.join([*words, f's{seed}'])
    return entry


def settings(pair: str, width: int, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """The trainings that settings are chosen by: as many settings of every method, under one teacher."""
    return [teacher(pair, width)] + [
        student(pair, method, setting, seed, width)
        for seed in seeds
        for method in METHODS
        for setting in settings_of(pair, method)
    ]


def decision(
    pair: str,
    chosen: Mapping[str, float],
    seeds: Sequence[int],
    widths: Sequence[int],
    form_name: str | None = None,
) -> list[dict[str, Any]]:
    """The trainings that decide: every method with its chosen setting, the first teacher before the others.

    The others answer whether a student gets worse with the larger teacher, and their controls without a prior whether
    that is the prior's doing.

    Args:
        pair: Key of ``PAIRS``.
        chosen: Method -> its setting.
        seeds: Of the students.
        widths: Of the teachers.
        form_name: Key of :func:`forms`, which is a method more, ``dpk_form``, and without a prior ``no_prior_form``,
            both with the weight of ``dpk``.
    """
    entries: list[dict[str, Any]] = []
    for width in widths:
        entries.append(teacher(pair, width))
        asked = [
            method
            for method in (*METHODS, *(FORM if form_name is not None else ()))
            if width == widths[0] or method != BASELINE
        ]
        for seed in seeds:
            for method in asked:
                if method in METHODS:
                    entry = student(pair, method, chosen[method], seed, width, named=False)
                else:
                    prior = not method.startswith('no_prior')
                    entry = form(pair, str(form_name), chosen['dpk'], seed, width, prior=prior)
                    entry.update(method=method, name=f'{method}-w{width}-s{seed}')
                entries.append(entry)
    return entries


def find_pair(pair: str) -> Pair:
    """The pair of a name.

    Raises:
        UsageError: If there is none.
    """
    if pair not in PAIRS:
        raise UsageError(
            f'there is no pair {pair!r} in tools/experiments/classifiers.py, but {", ".join(PAIRS)}.'
        )
    return PAIRS[pair]
