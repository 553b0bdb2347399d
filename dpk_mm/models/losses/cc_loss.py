"""CC: correlation congruence, how the images of a batch relate to each other in an embedding of either network."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmrazor.registry import MODELS
from torch import Tensor, nn

from ...errors import UsageError
from ..loss_parts.distill_loss import WHOLE, DistillLoss
from ..loss_parts.embedding import check_images, embedding_of
from ..loss_parts.regressor import apply_layers

MODES = ('code', 'paper')
KERNELS = ('gaussian', 'bilinear')


@MODELS.register_module()
class CCLoss(DistillLoss):
    """Congruence of the relations between images, after a linear embedding of either side.

    ``mode='paper'`` is ``|K_S - K_T|_F^2 / N^2``, where K are the values of a kernel of embeddings of length 1.
    ``mode='code'`` is what public codes run under this name, and the published weight and accuracies belong to it:
    the mean over the N - 1 neighbours in the batch of ``sum_d |s - t|_i |s - t|_{i+1}``; it depends on the order of the
    images.

    Both embeddings are trained by the loss, as in public codes: the teacher's network is fixed, its embedding is not.

    Args:
        student_channels: Width of the student's embedding; not needed without a linear layer.
        teacher_channels: Width of the teacher's.
        embed_dims: Width of what is compared, 128 in both; None for no linear layers.
        mode: ``'code'`` or ``'paper'``.
        kernel: Of ``'paper'``: ``'gaussian'`` is the Taylor series of ``exp(-gamma |x - y|^2)`` to the power ``order``
            of ``x . y``, ``'bilinear'`` is ``x . y``.
        gamma: Of the Gaussian kernel, > 0.
        order: Of its series, >= 1.
        loss_weight: Factor of the loss; 0.02 in RepDistiller, beside a cross entropy of 1, and 0.003 in torchdistill.

    Raises:
        ValueError: If an argument is out of its range.
        UsageError: (a ValueError) If the batch has one image, or a record is no embedding of the width that was given.

    Source: Peng et al., "Correlation Congruence for Knowledge Distillation", L_CC; RepDistiller for ``'code'``.
    torchdistill has the kernels of the paper, but the Frobenius norm is not squared. mmrazor has none.
    """

    def __init__(
        self,
        student_channels: int | None = None,
        teacher_channels: int | None = None,
        embed_dims: int | None = 128,
        mode: str = 'code',
        kernel: str = 'gaussian',
        gamma: float = 0.4,
        order: int = 2,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(loss_weight)
        for name, value, known in (('mode', mode, MODES), ('kernel', kernel, KERNELS)):
            if value not in known:
                raise ValueError(
                    f'{name} of CCLoss must be {known[0]!r} or {known[1]!r}, but is {value!r}.'
                )
        if not 0 < gamma < math.inf:
            raise ValueError(
                f'gamma of CCLoss must be a finite number > 0, but is {gamma}; use 0.4.'
            )
        if not order >= 1:
            raise ValueError(f'order of CCLoss must be at least 1, but is {order}; use 2.')
        if embed_dims is not None and None in (student_channels, teacher_channels):
            raise ValueError(
                'CCLoss needs student_channels and teacher_channels, the widths of the two embeddings; or set '
                'embed_dims=None for no linear layers.'
            )
        self.mode = mode
        self.kernel = kernel
        self.gamma = gamma
        self.order = order
        self.channels = dict(student=student_channels, teacher=teacher_channels)
        self.student_embed: nn.Module = nn.Identity()
        self.teacher_embed: nn.Module = nn.Identity()
        if embed_dims is not None:
            self.student_embed = nn.Linear(student_channels, embed_dims)
            self.teacher_embed = nn.Linear(teacher_channels, embed_dims)

    def parts(
        self,
        student_embedding: Tensor | Sequence[Tensor],
        teacher_embedding: Tensor | Sequence[Tensor],
    ) -> dict[str, Tensor]:
        """The loss as its only part.

        Args:
            student_embedding: ``[N, D]``, what the classifier reads; a map or a tuple, see
                :func:`~dpk_mm.models.loss_parts.embedding.embedding_of`.
            teacher_embedding: Likewise; no gradient flows into it.
        """
        student = self._embedding(student_embedding, 'student')
        teacher = self._embedding(teacher_embedding, 'teacher').detach()
        check_images(len(student), 2, 'CCLoss')
        with torch.autocast(student.device.type, enabled=False):
            own = apply_layers(self.student_embed, student)
            given = apply_layers(self.teacher_embed, teacher)
            if self.mode == 'paper':
                loss = (self._relations(own) - self._relations(given)).square().mean()
            else:
                if own.shape != given.shape:
                    raise UsageError(
                        f"CCLoss with mode='code' and embed_dims=None subtracts the embeddings, but the student's "
                        f"has the width {own.shape[1]} and the teacher's {given.shape[1]}; set embed_dims=128."
                    )
                delta = (own - given).abs()
                loss = (delta[:-1] * delta[1:]).sum(dim=1).mean()
            return {WHOLE: self.loss_weight * loss}

    def _embedding(self, record: Tensor | Sequence[Tensor], side: str) -> Tensor:
        embedding = embedding_of(record, 'CCLoss', side)
        expected = self.channels[side]
        if expected is not None and embedding.shape[1] != expected:
            raise UsageError(
                f'CCLoss has {side}_channels={expected}, but the {side}_embedding has the width '
                f'{embedding.shape[1]}; set {side}_channels={embedding.shape[1]}.'
            )
        return embedding

    def _relations(self, embedding: Tensor) -> Tensor:
        """``[N, N]``, the kernel's values."""
        unit = F.normalize(embedding, dim=1)
        product = unit @ unit.T
        if self.kernel == 'bilinear':
            return product
        factors = [(2 * self.gamma) ** p / math.factorial(p) for p in range(self.order + 1)]
        series = sum(factor * product**p for p, factor in enumerate(factors))
        return math.exp(-2 * self.gamma) * series
