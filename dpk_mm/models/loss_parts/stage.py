"""One distilled stage of a DPKLoss: what its entry in ``transforms`` says."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ...functional.feature_maps import tokens_to_map
from ...functional.masking import TokenMask, tokens_to_cells
from ...functional.windows import Windows, merge_windows, split_windows, windows_of
from ...modules.hybrid_transform import FeatureTransform, check_choice, check_sizes
from ...modules.mask_strategy import MaskContext, build_mask
from ...modules.transforms import TRANSFORMS, build_transform

SUPERVISE = ('full', 'student')
SIDES = ('student', 'teacher')
OWN_KEYS = (
    'type',
    'index',
    'weight',
    'resize',
    'normalize_target',
    'mask',
    'supervise',
    'max_tokens',
    *(f'{side}_{key}' for side in SIDES for key in ('index', 'extra_tokens', 'grid')),
)


class Stage:
    """Where a stage's features are found, how its tokens are masked, and where its loss counts.

    Args:
        name: Its key in ``transforms``, which the errors name.
        cfg: Its value; see ``DPKLoss``.

    Raises:
        ValueError: If the stage lacks its index or an argument is unknown or does not fit.
    """

    def __init__(self, name: str, cfg: Mapping[str, Any]) -> None:
        self.name = name
        kwargs = dict(cfg)
        index = kwargs.pop('index', None)
        self.index: dict[str, int] = {}
        self.extra_tokens: dict[str, int] = {}
        self.grid: dict[str, Sequence[int] | None] = {}
        for side in SIDES:
            place = kwargs.pop(f'{side}_index', index)
            if place is None:
                raise ValueError(
                    f'DPKLoss: transforms.{name} needs index, the place of the stage in the recorded '
                    'tuple of features.'
                )
            if not isinstance(place, int) or isinstance(place, bool):
                raise ValueError(
                    f'DPKLoss: index of transforms.{name} must be a whole number, the place of the stage in the '
                    f"{side}'s recorded tuple, but is {place!r}; give index, or student_index and teacher_index."
                )
            self.index[side] = place
            self.extra_tokens[side] = kwargs.pop(f'{side}_extra_tokens', 0)
            self.grid[side] = kwargs.pop(f'{side}_grid', None)
        self.weight: float = kwargs.pop('weight', 1.0)
        self.resize: bool = kwargs.pop('resize', False)
        self.max_tokens: int | None = kwargs.pop('max_tokens', None)
        self.normalize_target: bool = kwargs.pop('normalize_target', False)
        mask = kwargs.pop('mask', 'random')
        self.supervise: str = kwargs.pop('supervise', 'full')
        kind = kwargs.get('type', 'DPKTransform')
        arguments = inspect.signature(TRANSFORMS[kind]).parameters if kind in TRANSFORMS else ()
        self._keys = {*OWN_KEYS, *arguments}
        try:
            _check_weight(self.weight)
            for side in SIDES:
                _check_layout(side, self.extra_tokens[side], self.grid[side])
            check_choice('supervise', self.supervise, SUPERVISE)
            if self.max_tokens is not None:
                check_sizes(1, max_tokens=self.max_tokens)
            self.mask = build_mask(mask)
        except (TypeError, ValueError) as error:
            raise self.error(error, f'transforms.{name}: ') from error
        self._mask_cfg, self._transform_cfg = mask, kwargs

    def build_transform(self) -> FeatureTransform:
        """The stage's transformation module, a new one.

        Raises:
            ValueError: If an argument is unknown, missing or does not fit, or a mask is set for a module that
                masks nothing.
        """
        try:
            transform = build_transform(self._transform_cfg, also=OWN_KEYS)
            self._check_mask_is_used(transform)
        except (TypeError, ValueError) as error:
            raise self.error(error, f'transforms.{self.name}: ') from error
        return transform

    def _check_mask_is_used(self, transform: FeatureTransform) -> None:
        if transform.uses_mask:
            return
        kind = type(transform).__name__
        if hasattr(transform, 'prior'):
            kind = f'prior={transform.prior!r}'
        given = dict(mask=(self._mask_cfg, 'random'), supervise=(self.supervise, 'full'))
        for key, (value, default) in given.items():
            if value != default:
                raise ValueError(f'{key} is {value!r}, but {kind} masks nothing; leave {key} out.')

    def error(self, error: Exception, prefix: str) -> ValueError:
        """The error with ``prefix``, or with the config key in full where it starts with one."""
        key = re.split(r'[ .:]', str(error), maxsplit=1)[0]
        if key in self._keys:
            prefix = f'transforms.{self.name}.'
        return ValueError(f'DPKLoss: {prefix}{error}')

    def pick(self, side: str, feats: Sequence[Tensor]) -> Tensor:
        """The stage's own feature of a side's recorded tuple, as a map ``[N, C, H, W]``.

        Raises:
            ValueError: If there is none at the index, or ``extra_tokens`` or ``grid`` do not fit it.
        """
        index = self.index[side]
        if not -len(feats) <= index < len(feats):
            raise ValueError(
                f'DPKLoss: stage {self.name} has index {index}, but the {side} recorder gives {len(feats)} features; '
                f'the index must be in 0..{len(feats) - 1}.'
            )
        feature = feats[index]
        if feature.ndim != 3:
            for key, unset in (('extra_tokens', 0), ('grid', None)):
                value = getattr(self, key)[side]
                if value != unset:
                    raise ValueError(
                        f'DPKLoss: transforms.{self.name}.{side}_{key} is {value!r}, but the recorded feature of '
                        f'shape {tuple(feature.shape)} is no sequence of tokens [N, L, C]; leave it out.'
                    )
            return feature
        try:
            return tokens_to_map(feature, self.extra_tokens[side], self.grid[side])
        except ValueError as error:
            prefix = f'DPKLoss: transforms.{self.name}.{side}_'
            raise ValueError(f'{prefix}{error}') from error

    def hybrid(
        self,
        transform: FeatureTransform,
        student: Tensor,
        teacher: Tensor,
        mask_ratio: float,
        context: MaskContext,
    ) -> tuple[Tensor, Tensor | None]:
        """The transformed feature, and the cells ``[N, 1, H, W]`` to supervise (None: all of them)."""
        try:
            transform.check_features(student, teacher)
            return self.in_windows(
                transform,
                student,
                teacher,
                lambda s, t: self._whole(transform, s, t, mask_ratio, context),
            )
        except ValueError as error:
            raise self.error(error, f'stage {self.name}: ') from error

    def split(
        self, transform: FeatureTransform, student: Tensor, teacher: Tensor
    ) -> tuple[Tensor, Tensor, Windows | None]:
        """The features as the module gets them: in windows where the map has more than ``max_tokens`` tokens."""
        shape = (teacher.shape[-2], teacher.shape[-1])
        windows = None
        if self.max_tokens is not None:
            windows = windows_of(shape, transform.patch_size, self.max_tokens)
        if windows is None:
            return student, teacher, None
        if student.shape[-2:] != shape:
            student = F.interpolate(student, shape, mode='bilinear', align_corners=False)
        return split_windows(student, windows), split_windows(teacher, windows), windows

    def in_windows(
        self,
        transform: FeatureTransform,
        student: Tensor,
        teacher: Tensor,
        run: Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]],
    ) -> tuple[Tensor, Tensor | None]:
        """What ``run`` gives for maps of at most ``max_tokens`` tokens each, put together again.

        Args:
            transform: The stage's module.
            student: ``[N, C_s, h, w]``.
            teacher: ``[N, C_t, H, W]``.
            run: Gets both, whole or as windows of one size, and gives one or two maps of the teacher's H x W.

        Raises:
            ValueError: If there are windows and the stage's mask is drawn by boxes.
        """
        shape = (teacher.shape[-2], teacher.shape[-1])
        student, teacher, windows = self.split(transform, student, teacher)
        if windows is None:
            return run(student, teacher)
        if self.mask.needs == 'boxes':
            raise ValueError(
                f'max_tokens is {self.max_tokens}, but the map of {shape[0]} x {shape[1]} cells has more tokens, '
                'and a mask by boxes is not drawn in windows; leave max_tokens out, or set a larger patch_size.'
            )
        first, second = run(student, teacher)
        if second is not None:
            second = merge_windows(second, windows, shape)
        return merge_windows(first, windows, shape), second

    def _whole(
        self,
        transform: FeatureTransform,
        student: Tensor,
        teacher: Tensor,
        mask_ratio: float,
        context: MaskContext,
    ) -> tuple[Tensor, Tensor | None]:
        """:meth:`hybrid` of maps whose tokens all attend to each other."""
        mask: TokenMask | None = None
        if transform.uses_mask:
            mask = self.mask(mask_ratio, student.detach(), teacher, transform.patch_size, context)
        hybrid = transform(student, teacher, mask_ratio, mask)
        if self.supervise == 'full' or mask is None:
            return hybrid, None
        shape = (teacher.shape[-2], teacher.shape[-1])
        return hybrid, tokens_to_cells(~mask.as_bool(), shape, transform.patch_size)


def _check_weight(weight: Any) -> None:
    number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
    if not (number and math.isfinite(weight) and weight >= 0):
        raise ValueError(f'weight must be a finite number >= 0, but is {weight!r}; use 1.0.')


def _check_layout(side: str, extra_tokens: int, grid: Sequence[int] | None) -> None:
    if not isinstance(extra_tokens, int) or extra_tokens < 0:
        raise ValueError(
            f'{side}_extra_tokens must be a whole number of at least 0, but is {extra_tokens!r}.'
        )
    if grid is not None and (
        len(grid) != 2 or not all(isinstance(count, int) and count > 0 for count in grid)
    ):
        raise ValueError(f'{side}_grid must be (rows, columns), but is {grid!r}.')
