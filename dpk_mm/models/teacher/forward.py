"""How much of the teacher is run: no more than what recorders and deliveries look at."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from mmengine.logging import print_log
from mmrazor.models.distillers import ConfigurableDistiller
from mmrazor.models.task_modules.recorder.function_outputs_recorder import FunctionOutputsRecorder
from mmrazor.models.task_modules.recorder.method_outputs_recorder import MethodOutputsRecorder
from torch import Tensor, nn

from dpk_mm.errors import UsageError, first_few

#: From the least to the most: the neck's features, the head's outputs, the head's losses.
DEPTHS = ('features', 'logits', 'loss')
Samples = Callable[[], Sequence[Any] | None]
TEACHER_FORWARDS = ('auto', *DEPTHS)


class TeacherForward:
    """Runs the teacher, as far as the distiller needs it.

    ``depth`` is where it starts. Where a recorder or a delivery has got nothing after the first batch, because it looks
    at a head that was not run, the next depth is tried with the same batch, and stays.

    Args:
        depth: 'features' (``extract_feat``), 'logits' (``forward(mode='tensor')``), 'loss'
            (``forward(mode='loss')``, of which only what is recorded counts), or 'auto': features where the model has
            no single ``head`` (detectors), logits else (classifiers).
        teacher: An mmdet or mmpretrain model.

    Raises:
        UsageError: (a ValueError) If ``depth`` is unknown.
    """

    def __init__(self, depth: str, teacher: nn.Module) -> None:
        if depth not in TEACHER_FORWARDS:
            raise UsageError(
                f'teacher_forward must be one of {TEACHER_FORWARDS}, but is {depth!r}.'
            )
        if depth == 'auto':
            depth = 'logits' if is_classifier(teacher) else 'features'
        self.depth = depth
        self._settled = False

    def __call__(
        self,
        teacher: nn.Module,
        distiller: ConfigurableDistiller,
        inputs: Tensor,
        samples: Samples,
    ) -> None:
        """Runs ``teacher`` on a batch, for the distiller's recorders and deliveries.

        Args:
            teacher: The teacher.
            distiller: Whose recorders and deliveries are filled.
            inputs: ``[N, C, H, W]``, normalised for the teacher.
            samples: Gives the data samples; it is called where the head is run, which looks at them.
        """
        self._run(self.depth, teacher, inputs, samples)
        if not self._settled:
            self._settled = True
            before = without_records(distiller)
            if before:
                self._go_deeper(before, teacher, distiller, inputs, samples)

    def _go_deeper(
        self,
        before: list[str],
        teacher: nn.Module,
        distiller: ConfigurableDistiller,
        inputs: Tensor,
        samples: Samples,
    ) -> None:
        best, fewest, last = self.depth, len(before), self.depth
        for depth in DEPTHS[DEPTHS.index(self.depth) + 1 :]:
            _forget(distiller)
            last = depth
            samples()  # what is wrong with them is said, and not passed over below
            # what a teacher cannot do here, such as a loss in eval mode, was not asked for by name
            with suppress(Exception):
                self._run(depth, teacher, inputs, samples)
                missing = len(without_records(distiller))
                if missing < fewest:
                    best, fewest = depth, missing
            if not fewest:
                break
        if best != last:
            _forget(distiller)
            self._run(best, teacher, inputs, samples)
        if best != self.depth:
            print_log(
                f'The teacher is run with teacher_forward={best!r}, not {self.depth!r}, for {first_few(before)}.',
                'current',
                level=logging.INFO,
            )
            self.depth = best

    @staticmethod
    def _run(depth: str, teacher: nn.Module, inputs: Tensor, samples: Samples) -> None:
        if depth == 'features':
            teacher.extract_feat(inputs)
        else:
            teacher(inputs, samples(), mode='tensor' if depth == 'logits' else 'loss')


def is_classifier(model: nn.Module) -> bool:
    """Whether a model has one ``head``, as classifiers have and detectors have not."""
    return isinstance(getattr(model, 'head', None), nn.Module)


def without_records(distiller: ConfigurableDistiller) -> list[str]:
    """The teacher's recorders and the deliveries that have got nothing."""
    recorders = getattr(distiller, 'teacher_recorders', None)
    deliveries = getattr(distiller, 'deliveries', None)
    empty = [
        f'recorder {name!r} ({recorder.source})'
        for name, recorder in getattr(recorders, 'recorders', {}).items()
        if not recorder.data_buffer
    ]
    empty += [
        f'delivery {name!r}'
        for name, delivery in getattr(deliveries, 'deliveries', {}).items()
        if not delivery.data_queue
    ]
    return empty


def _forget(distiller: ConfigurableDistiller) -> None:
    for recorder in distiller.teacher_recorders.recorders.values():
        if isinstance(recorder, (FunctionOutputsRecorder, MethodOutputsRecorder)):
            recorder.data_buffer.clear()  # the wrapped function has this very list
        else:
            recorder.reset_data_buffer()
    for delivery in distiller.deliveries.deliveries.values():
        delivery.data_queue.clear()
