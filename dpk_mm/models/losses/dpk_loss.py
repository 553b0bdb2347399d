"""DPK's feature loss: hybrid features against the teacher's."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from mmengine.logging import print_log
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ...errors import UsageError
from ...functional.feature_error import channel_scale
from ...modules import MaskRatioPolicy
from ...modules.mask_strategy import MaskContext
from ..loss_parts.distill_loss import DistillLoss, at_least_float32
from ..loss_parts.ground_truth import boxes_of
from ..loss_parts.module_warmup import ModuleWarmup, rebuilt
from ..loss_parts.resizing import check_pair
from ..loss_parts.stage import Stage


@MODELS.register_module()
class DPKLoss(DistillLoss):
    """``L_feat = D_feat(T_s(F_s, F_t), F_t)`` (Eq. 4), summed over the distilled stages.

    For each stage a transformation module of its own builds the hybrid feature; ``mask_ratio``, a policy that a
    hook of the config binds before training, gives the share of the teacher. D_feat is the mean squared error on the
    full map (classification), or a ``criterion`` such as :class:`FGDLoss` (Eq. 9) or :class:`TeacherHeadLoss`: it sees
    the tuple of student features with the hybrids in their places, the other levels as they are.

    A stage is a dict of the arguments of its transformation module and of these:

    - ``index``, the place of the stage in the recorded tuples, or ``student_index`` and ``teacher_index``.
    - ``type``: 'DPKTransform' (the default), or another of :data:`dpk_mm.modules.TRANSFORMS` (Table 8).
    - ``mask``: 'random' (the default), 'block', 'grid' (Table 6), or a dict with ``type`` and arguments, such as
      ``dict(type='scores', score='gap')``, an active prior (:mod:`dpk_mm.modules.mask_strategy`).
    - ``supervise``: 'full' (the default) or 'student', the cells of the tokens that the student kept (Table 9). For
      the criterion the teacher's own values then stand in the masked cells, so that their residual is zero; FGD's
      attention and context terms, which look at a whole map, see that mixture.
    - ``resize`` (False): whether the student's feature may have half the side of the teacher's or less, or twice it or
      more. Such a pair is mostly one of two strides, paired by place, and refused.
    - ``max_tokens`` (None: no limit): a map of more tokens is cut into equal windows of at most so many, each of them
      masked and transformed as a sample of its own, so that attention never sees more and its cost grows with the
      area of the image and not with its square. Smaller maps are not touched, and no parameter depends on it.
    - ``normalize_target`` (False), for the mean squared error: whether the residual of each channel is divided by the
      teacher's spread in it (:func:`~dpk_mm.functional.feature_error.channel_scale`, over the mini-batch), so that the
      loss does not depend on how large a network's features are.
    - ``weight`` of the stage (1.0); with a criterion it is the factor of that level in it, for DPK's levels apart
      from the others.
    - For tokens of a transformer, ``[N, L, C]``: ``student_extra_tokens`` and ``teacher_extra_tokens`` (0), how many
      class and distillation tokens stand first and are put aside, and ``student_grid`` and ``teacher_grid``, (rows,
      columns) of patches that are no square.

    Args:
        transforms: Stage name -> its dict. A value of None drops a stage that a base config has.
        criterion: D_feat on the tuple of features: a loss with ``parts(student_feats, teacher_feats, data_samples)``
            or its config; the mean squared error if None.
        loss_weight: Factor of the loss, beta in Eq. 3.
        module_warmup: None; or a number of iterations, or a dict of the arguments of
            :class:`~dpk_mm.models.loss_parts.module_warmup.ModuleWarmup`: for so long the student's features enter the
            modules detached, and only the modules learn from the hybrid.

    Raises:
        ValueError: If there is no stage, a stage lacks its index, one of its arguments is unknown or does not fit, or
            the criterion does not compare the levels of the stages.
        UsageError: (a ValueError) If the criterion's config is of a loss without ``aligned_levels``; at the first
            forward pass, if no mask-ratio hook governs a loss that masks tokens.

    Source: DPK, Eq. 4 (MSE), Eq. 8 and 9 (FGD). The authors' code computes the whole FGD loss on the hybrid.
    """

    def __init__(
        self,
        transforms: Mapping[str, Mapping[str, Any] | None],
        criterion: Mapping[str, Any] | nn.Module | None = None,
        loss_weight: float = 1.0,
        module_warmup: int | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(loss_weight)
        self.transforms = nn.ModuleDict()
        self.stages = {
            name: Stage(name, cfg) for name, cfg in transforms.items() if cfg is not None
        }
        if not self.stages:
            raise ValueError('DPKLoss: transforms names no stage; give at least one, such as P5.')
        for name, stage in self.stages.items():
            self.transforms[name] = stage.build_transform()
        if isinstance(criterion, Mapping):
            criterion = dict(criterion)
            _check_criterion(criterion.get('type'))
            # A hybrid has the teacher's width already: no alignment layer may be left without gradient.
            levels = tuple(stage.index['student'] for stage in self.stages.values())
            criterion.setdefault('aligned_levels', levels)
            criterion = MODELS.build(criterion)
        self.criterion = criterion
        if criterion is not None:
            self._fit_criterion()
        self.module_warmup: ModuleWarmup | None = None
        if module_warmup is not None:
            try:
                self.module_warmup = ModuleWarmup.from_config(dict(self.transforms), module_warmup)
            except ValueError as error:
                raise ValueError(f'DPKLoss: {error}') from error
        self.mask_ratio: MaskRatioPolicy | None = None
        self._resized: set[str] = set()

    def _fit_criterion(self) -> None:
        """A criterion sees one hybrid per level, in a pair of levels that it compares, and weighs it.

        A criterion without ``levels`` compares level i with level i, and without ``scale_level`` all alike.
        """
        compared = {level.student: level.teacher for level in getattr(self.criterion, 'levels', ())}
        seen: dict[int, str] = {}
        for name, stage in self.stages.items():
            student, teacher = stage.index['student'], stage.index['teacher']
            other = compared.get(student) if compared else student
            problem = None
            if student < 0 or teacher < 0:
                problem = f'index is {min(student, teacher)}, but must be counted from 0'
            elif student in seen:
                problem = f'index {student} is taken by {seen[student]} already'
            elif other is None:
                problem = f'the criterion compares the levels {[*compared]}, and {student} is not among them'
            elif other != teacher:
                problem = (
                    f"teacher_index is {teacher}, but the criterion compares the student's level {student} with "
                    f"{other} of the teacher; name the pair in the criterion's levels, too"
                )
            elif stage.normalize_target:
                problem = 'normalize_target has no effect, since it is of the mean squared error; leave it out'
            elif stage.weight != 1.0 and not hasattr(self.criterion, 'scale_level'):
                problem = (
                    f'weight is {stage.weight}, but {type(self.criterion).__name__} does not weigh levels apart; '
                    'leave it out'
                )
            if problem:
                raise ValueError(f'DPKLoss: transforms.{name}: with a criterion, {problem}.')
            seen[student] = name
            if stage.weight != 1.0:
                self.criterion.scale_level(student, stage.weight)

    def prepare_from_student(self, model: nn.Module) -> None:
        """Gives the student to a criterion that reads more of it than features."""
        if hasattr(self.criterion, 'prepare_from_student'):
            self.criterion.prepare_from_student(model)

    def prepare_from_teacher(self, model: nn.Module) -> None:
        """Gives the teacher to a criterion that reads more of it than features."""
        if hasattr(self.criterion, 'prepare_from_teacher'):
            self.criterion.prepare_from_teacher(model)

    @property
    def masks_tokens(self) -> bool:
        """Whether any stage masks tokens, so that a mask ratio is needed."""
        return any(transform.uses_mask for transform in self.transforms.values())

    def feature_names(self) -> dict[tuple[str, int], str]:
        """The names of the stages, by side and index."""
        return {
            (side, index): name
            for name, stage in self.stages.items()
            for side, index in stage.index.items()
        }

    def parts(
        self,
        student_feats: Sequence[Tensor],
        teacher_feats: Sequence[Tensor],
        data_samples: Sequence[Any] | None = None,
        class_weight: Tensor | None = None,
        class_bias: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The summands of the loss by name.

        Args:
            student_feats: ``[N, C, H, W]`` or ``[N, L, C]`` each, as recorded.
            teacher_feats: Likewise; no gradient flows into them.
            data_samples: Handed to the criterion; a mask by ``score='foreground'`` takes its
                boxes from here.
            class_weight: ``[K, C]`` of the teacher's linear classifier, for a mask by
                ``score='uncertainty'``.
            class_bias: ``[K]``, its bias.

        Returns:
            Scalars; with MSE one for each stage, else what the criterion gives.

        Raises:
            ValueError: If a stage's index is out of range, its channels do not fit, or what its mask needs is missing.
        """
        student_feats = _as_tuple(student_feats)
        teacher_feats = tuple(t.detach() for t in _as_tuple(teacher_feats))
        pairs = {}
        for name, stage in self.stages.items():
            student = stage.pick('student', student_feats)
            teacher = stage.pick('teacher', teacher_feats)
            check_pair(
                student.shape[-2:],
                teacher.shape[-2:],
                stage.resize,
                f'DPKLoss: stage {name}',
                f'give transforms.{name} a student_index and a teacher_index that have the same stride',
            )
            if student.shape[-2:] != teacher.shape[-2:] and name not in self._resized:
                self._resized.add(name)
                print_log(
                    f'DPKLoss: stage {name}: the student feature of {tuple(student.shape[-2:])} is resized to the '
                    f"teacher's {tuple(teacher.shape[-2:])}.",
                    logger='current',
                )
            pairs[name] = (student, teacher)

        ratios = self._ratios(pairs)
        context = self._context(teacher_feats[0], data_samples, class_weight, class_bias)
        if self.module_warmup is not None:
            pairs = {name: self._warmed_up(name, *pair) for name, pair in pairs.items()}
        hybrids = {
            name: stage.hybrid(self.transforms[name], *pairs[name], ratios[name], context)
            for name, stage in self.stages.items()
        }

        if self.criterion is None:
            with torch.autocast(teacher_feats[0].device.type, enabled=False):
                return {
                    name: self.loss_weight
                    * self.stages[name].weight
                    * _mean_square(
                        at_least_float32(hybrid),
                        at_least_float32(pairs[name][1]),
                        cells,
                        self.stages[name].normalize_target,
                    )
                    for name, (hybrid, cells) in hybrids.items()
                }
        mixed, whole = list(student_feats), list(teacher_feats)
        for name, (hybrid, cells) in hybrids.items():
            index, teacher = self.stages[name].index, pairs[name][1]
            whole[index['teacher']] = teacher
            if cells is not None:
                hybrid = torch.where(cells, hybrid, teacher)
            mixed[index['student']] = hybrid
        parts = self.criterion.parts(tuple(mixed), tuple(whole), data_samples)
        return {name: self.loss_weight * value for name, value in parts.items()}

    def _warmed_up(self, name: str, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """The pair of a stage, the student's feature detached while the modules are warmed up."""
        assert self.module_warmup is not None
        if self.module_warmup.measures(name):
            transform = self.transforms[name]
            with torch.no_grad():  # on the whole map: windows may have zeros beyond it
                hybrid, _ = self.stages[name].in_windows(
                    transform, student, teacher, partial(rebuilt, transform)
                )
            self.module_warmup.observe(name, hybrid, teacher)
        return (student.detach() if self.module_warmup.detaches(name) else student), teacher

    def _ratios(self, pairs: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
        """The mask ratio of each stage; 0 where nothing is masked."""
        if self.mask_ratio is None:
            if not self.masks_tokens:
                return dict.fromkeys(pairs, 0.0)
            raise UsageError(
                'DPKLoss: no mask-ratio hook sets its mask ratio; add default_hooks = '
                "dict(mask_ratio=dict(type='mmrazor.CKAMaskRatioHook')) to the config, or another mask-ratio hook."
            )
        return self.mask_ratio({n: (s.detach(), t) for n, (s, t) in pairs.items()})

    def _context(
        self,
        feature: Tensor,
        data_samples: Sequence[Any] | None,
        class_weight: Tensor | None,
        class_bias: Tensor | None,
    ) -> MaskContext:
        """What the stages' masks need, and nothing else: boxes are not there in classification."""
        boxes, image_shape = None, (0, 0)
        needs = {stage.mask.needs: name for name, stage in self.stages.items()}
        if 'boxes' in needs:
            user = f"DPKLoss: transforms.{needs['boxes']}.mask with score='foreground'"
            boxes, image_shape = boxes_of(data_samples, feature, user)
        if 'class_weight' in needs and class_weight is None:
            raise ValueError(
                f"DPKLoss: transforms.{needs['class_weight']}.mask with score='uncertainty' needs class_weight, but "
                "found None; map it in loss_forward_mappings from a teacher recorder dict(type='Parameter', "
                "source='head.fc.weight'), and class_bias likewise."
            )
        return MaskContext(boxes, image_shape, _detached(class_weight), _detached(class_bias))


def _check_criterion(kind: Any) -> None:
    """Refuses a loss that cannot be told which levels are hybrids; a name that is unknown is the registry's."""
    found = MODELS.get(kind) if isinstance(kind, str) else kind
    if not inspect.isclass(found):
        return
    arguments = inspect.signature(found).parameters.values()
    if not any(a.name == 'aligned_levels' or a.kind is a.VAR_KEYWORD for a in arguments):
        raise UsageError(
            f'DPKLoss: criterion is {found.__name__}, which takes no aligned_levels and so would align hybrids, which '
            "have the teacher's channels already; take FGDLoss or TeacherHeadLoss, or leave criterion out for the mean "
            'squared error.'
        )


def _mean_square(
    hybrid: Tensor, teacher: Tensor, cells: Tensor | None, normalize: bool = False
) -> Tensor:
    """Mean squared error over all cells, or those of ``cells``, ``[N, 1, H, W]`` bool."""
    if normalize:
        scale = channel_scale(teacher)
        hybrid, teacher = hybrid / scale, teacher / scale
    if cells is None:
        return nn.functional.mse_loss(hybrid, teacher)
    square = (hybrid - teacher).square() * cells
    return square.sum() / (cells.sum() * hybrid.shape[1]).clamp_min(1)


def _detached(parameter: Tensor | None) -> Tensor | None:
    return None if parameter is None else parameter.detach()


def _as_tuple(feats: Sequence[Tensor] | Tensor) -> tuple[Tensor, ...]:
    return (feats,) if isinstance(feats, Tensor) else tuple(feats)
