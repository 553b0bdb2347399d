"""mmpretrain's wrappers of timm's and Hugging Face's classifiers lose their weights inside of another model.

They save the wrapped network without the ``model.`` of its names, and add it again at loading. Both are written for a
wrapper that is the whole model: inside of another one, such as the student of a distillation, what the first gives
back is dropped, and the second adds ``model.`` twice, and takes away the entries of all other parts. A resumed training
then starts from random weights, and says so in a log line at most.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from ._patch import Patch, is_installed

_INNER = 'model.'
# Parts of the wrapper beside the wrapped network.
_OTHERS = ('data_preprocessor.', 'loss_module.')


def remove_prefix(
    module: Any, state_dict: MutableMapping[str, Any], prefix: str, local_metadata: Any
) -> MutableMapping[str, Any]:
    """Takes ``model.`` off the names of the wrapped network, in place, whatever stands before them."""
    inner = prefix + _INNER
    for name in [name for name in state_dict if name.startswith(inner)]:
        state_dict[prefix + name[len(inner) :]] = state_dict.pop(name)
    return state_dict


def add_prefix(
    state_dict: MutableMapping[str, Any],
    prefix: str,
    local_metadata: Any,
    strict: bool,
    missing_keys: list[str],
    unexpected_keys: list[str],
    error_msgs: list[str],
) -> None:
    """Puts ``model.`` before the names of the wrapped network, in place; other parts of the model keep theirs.

    Names that have it already are those of a file that was written without this repair.
    """
    others = tuple(prefix + name for name in _OTHERS)
    names = [n for n in state_dict if n.startswith(prefix) and not n.startswith(others)]
    inner = prefix + _INNER
    if all(name.startswith(inner) for name in names):
        return
    for name in names:
        state_dict[inner + name[len(prefix) :]] = state_dict.pop(name)


def _wrappers() -> list[type]:
    from mmpretrain.models.classifiers import HuggingFaceClassifier, TimmClassifier

    return [TimmClassifier, HuggingFaceClassifier]


def needed() -> bool:
    """Whether a wrapper takes away the names of other parts."""
    if not is_installed('mmpretrain'):
        return False
    for wrapper in _wrappers():
        state = {'other.weight': 0, 'student.weight': 1}
        wrapper._add_state_dict_prefix(state, 'student.', {}, True, [], [], [])
        if set(state) != {'other.weight', 'student.model.weight'}:
            return True
    return False


def apply() -> None:
    """Replaces the two hooks of both wrappers."""
    for wrapper in _wrappers():
        wrapper._remove_state_dict_prefix = staticmethod(remove_prefix)  # type: ignore[attr-defined]
        wrapper._add_state_dict_prefix = staticmethod(add_prefix)  # type: ignore[attr-defined]


PATCH = Patch(
    name='timm_names',
    symptom='a TimmClassifier or HuggingFaceClassifier inside of another model is saved under names that stock '
    'mmpretrain does not load, and resumed from random weights',
    threads=(),
    obsolete_when='the wrappers of mmpretrain change names below their own prefix only, and in place',
    needed=needed,
    apply=apply,
)
