"""The global context of an image, which a GcBlock adds to each of its positions."""

from __future__ import annotations

from torch import Tensor, nn


class ContextBlock(nn.Module):
    """``W_v2(ReLU(LN(W_v1(sum_hw softmax(W_k F) F))))``, the additive term of a GcBlock.

    A block's output is ``F`` plus this term. The term is the same at every position, so it is given
    once per image and channel, and a caller can expand a squared difference of two outputs without
    making them. It is zero at initialisation, since ``W_v2`` is.

    Args:
        channels: C, channels of the feature map.
        reduction: The hidden layer has ``C // reduction`` channels.

    Raises:
        ValueError: If the hidden layer would have no channel.

    Source: FGD, global distillation; GCNet for the block. The 1x1 convolutions act on one position only
    and are Linear layers here. ``W_k`` has no bias, as the softmax over positions does not depend on it;
    the authors' code has one, whose gradient is always zero.
    """

    def __init__(self, channels: int, reduction: int = 2) -> None:
        super().__init__()
        if reduction < 1 or channels < reduction:
            raise ValueError(
                f'ContextBlock needs 1 <= reduction <= channels, but reduction is {reduction} and '
                f'channels is {channels}; use reduction=2.'
            )
        hidden = channels // reduction
        self.w_k = nn.Linear(channels, 1, bias=False)
        self.w_v1 = nn.Linear(channels, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.relu = nn.ReLU()
        self.w_v2 = nn.Linear(hidden, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Kaiming (fan-in) for ``W_k``, zero for ``W_v2``, torch's own for the rest."""
        nn.init.kaiming_normal_(self.w_k.weight, mode='fan_in', nonlinearity='relu')
        nn.init.zeros_(self.w_v2.weight)
        nn.init.zeros_(self.w_v2.bias)

    def forward(self, feature: Tensor) -> Tensor:
        """The term of each image.

        Args:
            feature: ``[N, C, H, W]``.

        Returns:
            ``[N, C]``.
        """
        flat = feature.flatten(2)  # [N, C, HW]
        share = (self.w_k.weight @ flat).softmax(-1)  # [N, 1, HW]
        return self.term((flat @ share.transpose(1, 2)).squeeze(-1))

    def term(self, pooled: Tensor) -> Tensor:
        """The term of features that were already pooled with the attention of ``W_k``.

        Args:
            pooled: ``[N, C]``.

        Returns:
            ``[N, C]``.
        """
        term: Tensor = self.w_v2(self.relu(self.norm(self.w_v1(pooled))))
        return term
