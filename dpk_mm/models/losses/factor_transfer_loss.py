"""FT: factors of the teacher's feature that a paraphraser extracts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.runner.checkpoint import _load_checkpoint
from mmrazor.models.architectures.connectors import Paraphraser, Translator
from mmrazor.registry import MODELS
from torch import Tensor

from ...errors import CheckpointError
from ...modules.hybrid_transform import check_choice
from ..loss_parts.distill_loss import WHOLE
from ..loss_parts.regressor import apply_layers, check_same_size, pool_to_smaller
from ..loss_parts.stage_loss import StageLoss


@MODELS.register_module()
class FactorTransferLoss(StageLoss):
    """FT: ``|f_s / |f_s| - f_t / |f_t||_1`` of the student's factor and the teacher's.

    The teacher's factor is what the encoder of a *paraphraser*, an autoencoder of the teacher's feature, gives; the
    student's is what a *translator* gives, trained with it. Both are mmrazor's ``Paraphraser`` and ``Translator``; its
    ``FTLoss`` is ``mode='paper'`` without them.

    The paper trains the paraphraser first, for 30 epochs without the student, and then leaves it as it is. Give its
    file as ``paraphraser_ckpt``; a checkpoint of a run with this loss is one. Without a file, the paraphraser is
    trained along with the student by its own error, the part ``reconstruction``, which reaches no other parameter.

    Args:
        stages: See :class:`~dpk_mm.models.loss_parts.stage_loss.StageLoss`; one stage, with channels. Published: the
            last. Where ``scale`` is not 1, the larger of the two factors is averaged to the size of the smaller one.
        rate: Channels of a factor over channels of the teacher, in (0, 1]; rounded down, but at least one channel.
        mode: ``'paper'``: the whole factor of an image is divided by its L2 norm. ``'code'``, as in CRD's
            comparison: the mean over channels of its squares is, as AT has it, so that it is of another size.
        paraphraser_ckpt: File or URL of a trained paraphraser, which then stays as it is.
        loss_weight: Factor of the loss. Published: 200 with ``'code'``.

    Raises:
        UsageError: (a ValueError) If a stage is malformed, or at the forward pass a feature does not fit.
        ValueError: If there is more than one stage, or ``rate`` or ``mode`` is out of its range.
        CheckpointError: If the file holds no paraphraser of this size, or several.

    Source: Kim et al., "Paraphrasing Complex Network: Network Compression via Factor Transfer", L_rec
    (reconstruction) and L_FT; weight of CRD's comparison.
    """

    needs_channels = True

    def __init__(
        self,
        stages: Sequence[Mapping[str, Any]],
        rate: float = 0.5,
        mode: str = 'paper',
        paraphraser_ckpt: str | None = None,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(stages, loss_weight)
        check_choice('mode of FactorTransferLoss', mode, ('paper', 'code'))
        if len(self.stages) != 1:
            raise ValueError(
                f'stages of FactorTransferLoss must be one stage, but are {len(self.stages)}; give each a loss.'
            )
        if not 0 < rate <= 1:
            raise ValueError(
                f'rate of FactorTransferLoss must be in (0, 1], but is {rate}; use 0.5.'
            )
        self.mode = mode
        stage = self.stages[0]
        # 0.29 * 100 is a little less than 29
        width = max(1, math.floor(int(stage.teacher_channels or 0) * rate + 1e-6))
        self.paraphraser = Paraphraser(stage.teacher_channels, width, use_bn=False)
        self.translator = Translator(stage.student_channels, width, use_bn=True)
        self.is_given = paraphraser_ckpt is not None
        if paraphraser_ckpt is not None:
            _load(self.paraphraser, paraphraser_ckpt)
            self.paraphraser.requires_grad_(False)

    def parts(
        self, student_feats: Sequence[Tensor], teacher_feats: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """``factor``, and ``reconstruction`` where the paraphraser is trained along.

        Args:
            student_feats: ``[N, C_s, H, W]`` each, as recorded.
            teacher_feats: ``[N, C_t, H, W]`` each; no gradient flows into them.
        """
        stage = self.stages[0]
        ((student, teacher),) = self.pick(student_feats, teacher_feats)
        weight = self.loss_weight * stage.weight
        with torch.autocast(student.device.type, enabled=False):
            given = apply_layers(self.paraphraser.encoder, teacher)
            own = apply_layers(self.translator, student)
            factor = weight * self.distance(own, given.detach())
            if self.is_given:
                return {WHOLE: factor}
            rebuilt = apply_layers(self.paraphraser.decoder, given)
            check_same_size(rebuilt, teacher, stage, 'FactorTransferLoss')
            return dict(factor=factor, reconstruction=weight * F.mse_loss(rebuilt, teacher))

    def distance(self, own: Tensor, given: Tensor) -> Tensor:
        """The mean absolute difference of two factors, ``[N, C, H, W]``, after their normalisation."""
        own, given = pool_to_smaller(own, given)
        if self.mode == 'code':
            own, given = own.square().mean(dim=1), given.square().mean(dim=1)
        return F.l1_loss(F.normalize(own.flatten(1)), F.normalize(given.flatten(1)))


def _load(paraphraser: Paraphraser, source: str) -> None:
    """Loads a paraphraser of its own, or the one in a checkpoint of a distillation."""
    state = _load_checkpoint(source, map_location='cpu')
    state = state.get('state_dict', state)
    start = 'paraphraser.'
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        prefix = key[: key.rindex(start) + len(start)] if start in key else ''
        if prefix or key.startswith(('encoder.', 'decoder.')):
            found.setdefault(prefix, {})[key[len(prefix) :]] = value
    own = _shapes(paraphraser.state_dict())
    fitting = [prefix for prefix, layers in found.items() if _shapes(layers) == own]
    if len(found) > 1 and len(fitting) != 1:
        names = ', '.join(repr(prefix) for prefix in found)
        raise CheckpointError(
            f'paraphraser_ckpt of FactorTransferLoss names {source}, which holds {len(found)} paraphrasers, {names}, '
            f'of which {len(fitting)} fit the stage; give a file in which one does.'
        )
    if not fitting:
        given = _shapes(next(iter(found.values()), {}))
        key = next((key for key in own if own[key] != given.get(key)), next(iter(given), ''))
        raise CheckpointError(
            f'paraphraser_ckpt of FactorTransferLoss names {source}, but its {key} is {given.get(key, "missing")}, and '
            f'{own.get(key, "not there")} is expected; give a checkpoint of a run with this loss on the same teacher.'
        )
    paraphraser.load_state_dict(found[fitting[0]])


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}
