"""What the networks of this folder share: which tensors they hand out, and in which order."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from dpk_mm.errors import UsageError

# The initialisation of the published CIFAR networks: normal, std = sqrt(2 / (k * k * C_out)).
FAN_OUT_INIT = (
    dict(type='Kaiming', layer='Conv2d'),
    dict(type='Constant', val=1, layer='_BatchNorm'),
)


def pick_arch(arch: str, table: dict, owner: str) -> tuple:
    """Looks up a published architecture by name.

    Raises:
        ValueError: If ``arch`` is not in ``table``.
    """
    if arch not in table:
        raise ValueError(f'{owner} has no arch {arch!r}; choose one of {", ".join(table)}.')
    return table[arch]


class Stage(nn.Sequential):
    """Residual blocks of one resolution; its last block can also give its value before the ReLU.

    Every block has ``forward(x)`` and ``forward_with_preact(x) -> (output, pre-activation)``.
    """

    def forward(self, x: Tensor, preact: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        if not preact:
            return super().forward(x)
        *body, last = self
        for block in body:
            x = block(x)
        return last.forward_with_preact(x)


class StageBackbone(BaseModule):
    """A backbone that returns the features of chosen stages, then what the classifier reads.

    The output is a tuple: one feature map ``[N, C, H, W]`` per entry of ``out_indices``, in that
    order, followed by the *embedding* (the map whose global average the classifier reads) unless
    that is the last entry already. So a neck and a head that take ``feats[-1]``, as
    ``GlobalAveragePooling`` and ``LinearClsHead`` of mmpretrain do, see the same tensor whichever
    stages are asked for, and one recorder ``source='backbone'`` carries all distilled stages.

    No operation writes in place, so a recorded feature is not overwritten later.

    The classes are registered in mmengine's root registry: mmpretrain, mmdet and mmrazor configs
    all find them by their bare name, and none of the three has to be imported for that.

    Args:
        stage_channels: Channels of every stage that can be returned.
        embed_channels: Channels of the embedding, ``in_channels`` of the head.
        out_indices: Stages to return; negative numbers count from the end. None means the last two
            resolutions, the stages that DPK distils by default.
        preact: Return the stages before their last activation (the stem is the same in both).
        init_cfg: Initialisation, as in mmengine. ``None`` keeps PyTorch's own.

    Raises:
        ValueError: If an index is out of range or given twice.
    """

    def __init__(
        self,
        stage_channels: Sequence[int],
        embed_channels: int,
        out_indices: Sequence[int] | None,
        preact: bool = False,
        init_cfg: dict | Sequence[dict] | None = None,
    ) -> None:
        super().__init__(list(init_cfg) if isinstance(init_cfg, tuple) else init_cfg)
        self.stage_channels = tuple(stage_channels)
        self.embed_channels = embed_channels
        self.out_indices = self._resolve(out_indices)
        self.preact = preact

    def _resolve(self, out_indices: Sequence[int] | None) -> tuple[int, ...]:
        count = len(self.stage_channels)
        if out_indices is None:
            return (count - 2, count - 1)
        if isinstance(out_indices, int):
            raise UsageError(
                f'{type(self).__name__}: out_indices is {out_indices}, and a list was expected: '
                f'write ({out_indices},) with a comma, or [{out_indices}].'
            )
        resolved = tuple(i + count if i < 0 else i for i in out_indices)
        if any(not 0 <= i < count for i in resolved) or len(set(resolved)) < len(resolved):
            raise ValueError(
                f'{type(self).__name__}: out_indices={tuple(out_indices)} must name different '
                f'stages of 0..{count - 1} (or -{count}..-1); correct the config.'
            )
        return resolved

    def collect(self, x: Tensor, *stages: Stage) -> tuple[list[Tensor], Tensor]:
        """Runs ``stages`` after the stem ``x``; gives ``x`` and what each offers, and the last."""
        offered = [x]
        for stage in stages:
            if self.preact:
                x, preact = stage(x, preact=True)
                offered.append(preact)
            else:
                x = stage(x)
                offered.append(x)
        return offered, x

    def forward_stages(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Gives every stage (before its last activation if ``preact``), and the embedding."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Computes the chosen stages and the embedding.

        Args:
            x: Images ``[N, 3, H, W]``.

        Returns:
            ``[N, C, H, W]`` features, the embedding last (see the class).
        """
        stages, embedding = self.forward_stages(x)
        outputs = tuple(stages[i] for i in self.out_indices)
        if not outputs or outputs[-1] is not embedding:
            outputs += (embedding,)
        return outputs
