"""The statistics of two feature maps that FGD's terms are functions of, computed without tensors of their size.

Written term by term, FGD makes about ten tensors as large as a feature map, and twice as many for
the gradient. All of its terms are functions of a few small statistics; this computes them, and the
gradient of all of them at once, block of channels by block of channels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .attention import attention_of

# Cells of one block on the CPU: a few blocks together stay in a core's cache. Other devices take
# all channels at once.
_BLOCK = 1 << 18


class ResidualStatistics(NamedTuple):
    """Statistics of a student's and a teacher's feature, with D = T - S.

    Attributes:
        error: ``[N, H * W]``, ``sum_c A_C D^2`` with the teacher's channel attention A_C.
        mean: ``[N, C]``, mean of D over the positions.
        spread: ``[N, C]``, ``sum (D - mean)^2`` over the positions.
        student_channel: ``[N, C]``, mean of |S| over the positions.
        student_spatial: ``[N, H * W]``, mean of |S| over the channels.
        student_pooled: ``[N, C]``, ``sum softmax(w_S S) S`` over the positions.
        teacher_pooled: ``[N, C]``, the same of the teacher with w_T.
        teacher_channel: ``[N, C]``, mean of |T|; no gradient.
        teacher_spatial: ``[N, H * W]``, mean of |T|; no gradient.
    """

    error: Tensor
    mean: Tensor
    spread: Tensor
    student_channel: Tensor
    student_spatial: Tensor
    student_pooled: Tensor
    teacher_pooled: Tensor
    teacher_channel: Tensor
    teacher_spatial: Tensor


def residual_statistics(
    student: Tensor,
    teacher: Tensor,
    student_key: Tensor | None,
    teacher_key: Tensor | None,
    temperature: float,
) -> ResidualStatistics:
    """Computes the statistics; differentiable once in the student and in both keys.

    Half precision inputs are taken to float32 block by block, float64 stays.

    Args:
        student: ``[N, C, H, W]``.
        teacher: ``[N, C, H, W]``; gets no gradient.
        student_key: ``[1, C]``, weight w_S of the attention that pools the student; None where nothing
            is pooled, and the pooled values are zero. If one key is None, both are taken as None.
        teacher_key: ``[1, C]``, the same for the teacher.
        temperature: T > 0 of the teacher's channel attention.

    Returns:
        The statistics, float32 (float64 for float64 inputs).

    Source: FGD, the sums that its feature, attention and global terms share.
    """
    flat_s, flat_t = student.flatten(2), teacher.detach().flatten(2)
    if student_key is None or teacher_key is None:
        student_key = teacher_key = None
    values = _Statistics.apply(flat_s, flat_t, student_key, teacher_key, temperature)
    return ResidualStatistics(*values)


def _blocks(x: Tensor) -> list[slice]:
    n, channels, cells = x.shape
    size = channels if x.device.type != 'cpu' else max(1, _BLOCK // max(1, n * cells))
    return [slice(i, min(i + size, channels)) for i in range(0, channels, size)]


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _add_product(total: Tensor, weight: Tensor, x: Tensor) -> None:
    """``total += sum_c weight_c x_c``: ``[N, L]``, ``[N, C]``, ``[N, C, L]``; ``@`` would copy a block of channels."""
    total.unsqueeze(1).baddbmm_(weight.unsqueeze(1), x)


class _Statistics(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        teacher: Tensor,
        student_key: Tensor | None,
        teacher_key: Tensor | None,
        temperature: float,
    ) -> tuple[Tensor, ...]:
        n, channels, cells = teacher.shape
        dtype = torch.float64 if student.dtype == torch.float64 else torch.float32

        def zeros(size: int) -> Tensor:
            return torch.zeros(n, size, dtype=dtype, device=student.device)

        mean, spread = zeros(channels), zeros(channels)
        magnitude = [(zeros(channels), zeros(cells)) for _ in range(2)]
        logits = [zeros(cells) for _ in range(2)]
        pooled = [zeros(channels) for _ in range(2)]
        keys = (student_key, teacher_key)
        for block in _blocks(student):
            sides = (_wide(student[:, block]), _wide(teacher[:, block]))
            for x, key, (channel, spatial), logit in zip(
                sides, keys, magnitude, logits, strict=True
            ):
                strength = x.abs()
                channel[:, block] = strength.mean(2)
                spatial += strength.sum(1)
                if key is not None:
                    _add_product(logit, _wide(key[:, block]).expand(n, -1), x)
            residual = sides[1] - sides[0]
            mean[:, block] = residual.mean(2)
            residual -= mean[:, block, None]
            spread[:, block] = residual.square_().sum(2)
        for _, spatial in magnitude:
            spatial /= channels

        attention = attention_of(magnitude[1][0], temperature)
        shares = [logit.softmax(1) for logit in logits]
        error = zeros(cells)
        for block in _blocks(student):
            sides = (_wide(student[:, block]), _wide(teacher[:, block]))
            _add_product(error, attention[:, block], (sides[1] - sides[0]).square_())
            if student_key is not None:
                for x, share, value in zip(sides, shares, pooled, strict=True):
                    value[:, block] = (x @ share.unsqueeze(2)).squeeze(2)

        ctx.save_for_backward(student, teacher, *keys, attention, mean, *shares)
        ctx.mark_non_differentiable(*magnitude[1])
        return (error, mean, spread, *magnitude[0], *pooled, *magnitude[1])

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override]
        ctx: Any,
        g_error: Tensor,
        g_mean: Tensor,
        g_spread: Tensor,
        g_channel: Tensor,
        g_spatial: Tensor,
        g_pooled_s: Tensor,
        g_pooled_t: Tensor,
        *_: Any,
    ) -> tuple[Tensor | None, ...]:
        student, teacher, key_s, key_t, attention, mean, share_s, share_t = ctx.saved_tensors
        _, channels, cells = student.shape
        blocks = _blocks(student)
        g_keys: list[Tensor | None] = [None, None]
        # rows of the outer products that the student's gradient gets besides those with D and |S|
        left = [-2 * g_spread * mean + g_mean / cells]
        right = [-torch.ones_like(share_s)]
        if key_s is not None:
            for side, (x, key, share, g_pooled) in enumerate(
                ((student, key_s, share_s, g_pooled_s), (teacher, key_t, share_t, g_pooled_t))
            ):
                g_share = torch.zeros_like(share)
                for block in blocks:
                    _add_product(g_share, g_pooled[:, block], _wide(x[:, block]))
                g_logit = share * (g_share - (share * g_share).sum(1, keepdim=True))
                g_key = torch.cat(
                    [(_wide(x[:, b]) @ g_logit.unsqueeze(2)).sum(0).T for b in blocks], dim=1
                )
                g_keys[side] = g_key.to(key.dtype)
                if side == 0:
                    left += [g_pooled, _wide(key).expand_as(g_pooled)]
                    right += [share, g_logit]
        rows, columns = torch.stack(left, 2), torch.stack(right, 1)
        two = 2 * attention
        slope_c, slope_l = g_channel / cells, g_spatial / channels
        grad = torch.empty_like(student)
        for block in blocks:
            s, t = _wide(student[:, block]), _wide(teacher[:, block])
            # d/dS of A_C D^2 and of (D - mean)^2, with S - T = -D
            value = torch.addcmul(
                2 * g_spread[:, block, None], two[:, block, None], g_error.unsqueeze(1)
            )
            value *= s - t
            slope = slope_c[:, block, None] + slope_l.unsqueeze(1)
            value.addcmul_(slope, s.sign())
            value.baddbmm_(rows[:, block], columns)
            grad[:, block] = value
        return grad, None, g_keys[0], g_keys[1], None
