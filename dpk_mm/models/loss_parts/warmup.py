"""A factor that grows from pass to pass at the start of a training."""

from __future__ import annotations

from ...errors import UsageError


class Warmup:
    """``min((passes that are complete + 1) / passes, 1)``, so that the first pass has ``1 / passes``.

    The position comes from the loop: ``WarmupHook``, which ``tools/train.py`` puts into every run, sets ``done``
    before each pass. There is no counter of its own that a stopped and resumed run, another batch size or an
    accumulation of gradients could bring out of step.

    Args:
        passes: Passes over the training data until the factor is 1; 0 for no warm-up.
        owner: The loss, the subject of the sentences.

    Attributes:
        done: Passes over the training data that are complete, None where nothing has said it.

    Raises:
        ValueError: If ``passes`` is no whole number >= 0.

    Source: DKD, section 4, and its code (mdistiller), which counts epochs from 1; ReviewKD's code.
    """

    def __init__(self, passes: int, owner: str) -> None:
        if not isinstance(passes, int) or isinstance(passes, bool) or passes < 0:
            raise ValueError(
                f'warmup of {owner} must be a whole number of passes over the training data, >= 0, but is {passes!r}.'
            )
        self.passes = passes
        self.owner = owner
        self.done: int | None = None

    def factor(self) -> float:
        """The factor of this pass, > 0 and <= 1.

        Raises:
            UsageError: (a ValueError) If there is a warm-up and nothing has set ``done``.
        """
        if not self.passes:
            return 1.0
        if self.done is None:
            raise UsageError(
                f'{self.owner} has a warm-up of {self.passes} passes, but no hook says which pass this is; train with '
                "tools/train.py, add default_hooks = dict(warmup=dict(type='mmrazor.WarmupHook')) to the config, or "
                'set warmup=0.'
            )
        return min((self.done + 1) / self.passes, 1.0)
