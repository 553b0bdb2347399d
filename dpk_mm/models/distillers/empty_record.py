"""Why a recorder has nothing to give, in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from mmrazor.models.task_modules.recorder import RecorderManager
from mmrazor.models.task_modules.recorder.base_recorder import BaseRecorder
from torch import nn

from dpk_mm.errors import first_few

from ..recorders import is_hooked, module_at, module_recorders


class PartsThatRan:
    """Notes which parts of recorded modules are run, until it is stopped: a look at the first batch.

    A module whose parts run while it does not is called by another method than ``forward``.
    """

    def __init__(self) -> None:
        self._ran: set[tuple[str, str]] = set()
        self._remove: list[Callable[[], None]] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> PartsThatRan:
        """A copy of the model (``EMAHook`` makes one) is not watched.

        The handles could not be copied, either: those of a part that was replaced (SyncBN on one GPU) have lost it.
        """
        return PartsThatRan()

    def watch(self, side: str, manager: RecorderManager, model: nn.Module) -> None:
        """Starts to watch the recorded modules of a side."""
        for recorder in manager.recorders.values():
            for leaf in module_recorders(recorder):
                module = module_at(model, leaf.source)
                for name, part in module.named_modules(prefix=leaf.source) if module else ():
                    if name != leaf.source and not any(part.children()):
                        handle = part.register_forward_hook(partial(self._note, side, name))
                        self._remove.append(handle.remove)

    def _note(self, side: str, name: str, *_: Any) -> None:
        self._ran.add((side, name))

    def stop(self) -> None:
        """Takes the hooks away."""
        for remove in self._remove:
            remove()
        self._remove.clear()

    def of(self, side: str, source: str) -> list[str]:
        """The parts of a module that have run, by name."""
        prefix = f'{source}.' if source else ''
        return sorted(name for s, name in self._ran if s == side and name.startswith(prefix))


def why_empty(
    side: str, name: str, recorder: BaseRecorder, model: nn.Module | None, ran: PartsThatRan
) -> str:
    """The sentence for a recorder without a record.

    Args:
        side: 'student' or 'teacher'.
        name: The recorder's name in the config.
        recorder: It.
        model: What it looks at.
        ran: The parts of recorded modules that have run.
    """
    kind = type(recorder).__name__.removesuffix('Recorder')
    leaves = module_recorders(recorder)
    empty = next((leaf for leaf in leaves if not leaf.data_buffer), None)
    if empty is None or model is None:
        return (
            f'{side}_recorders.{name} ({kind} of {recorder.source!r}) has recorded nothing: it was not called while '
            f'the {side} ran; a function that is imported by name is another one, so name the module that uses it.'
        )
    start = f'{side}_recorders.{name} ({kind} of {empty.source!r}) has recorded nothing'
    module = module_at(model, empty.source)
    if module is None:
        children = first_few(sorted(dict(model.named_children())), most=8)
        return f'{start}: the {side} has no module of that name any more; name one that it has, in {children}.'
    parts = ran.of(side, empty.source)
    if not is_hooked(module, empty):
        return (
            f'{start}: another module was put into its place after the model was built, so that its hook is gone; '
            'replace it before the training starts.'
        )
    if parts:
        return (
            f'{start}: its parts were run, but not its forward (a head is called by loss(), for instance); record '
            f'what it consists of, such as {first_few(parts)}.'
        )
    if side == 'teacher':
        mend = (
            'record a module that a forward pass of the teacher reaches, or give a teacher that has it in its '
            "forward (model.teacher_forward is 'features', 'logits' or 'loss')"
        )
    else:
        mend = 'record a module that the training of the student runs'
    return f'{start}: it was not run, or its weights are used without calling it; {mend}.'
