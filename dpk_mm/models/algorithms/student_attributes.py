"""What upstream code looks for on the model, and an algorithm keeps in its student."""

from __future__ import annotations

from typing import Any

from torch import nn

# Asked for to find out whether something is wrapped around a model. A student that has one is not that.
_NOT_FORWARDED = ('module',)


class StudentAttributes(nn.Module):
    """Public attributes that the algorithm does not have are those of ``architecture``, for reading and setting.

    Hooks of mmdet and mmpretrain expect the plain model: they say ``model.bbox_head.use_l1 = True``,
    ``model.head.set_margins(...)`` or ``model.loss_lambda = 0``. All of it has to reach the student.

    What the algorithm has itself (attributes, properties and methods of its class, children) is its own, and so is
    what begins with an underscore. Setting reaches the student only once :meth:`forward_to_student` was called, at the
    end of the constructor, and only for what the student has; a new attribute is the algorithm's.

    Parameters keep their names: ``architecture.*``. Code that goes by the beginning of names has to be given the
    student itself.
    """

    def forward_to_student(self) -> None:
        """From now on, attributes that only the student has are set there."""
        self.__dict__['_forwards'] = True

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            student = self._student_with(name)
            if student is None:
                raise
        try:
            return getattr(student, name)
        except AttributeError:
            raise AttributeError(
                f'{type(self).__name__} has no attribute {name!r}, and neither has its student, '
                f'a {type(student).__name__}.'
            ) from None

    def __setattr__(self, name: str, value: Any) -> None:
        student = self._student_with(name) if self.__dict__.get('_forwards') else None
        if student is not None and not self._is_own(name) and hasattr(student, name):
            setattr(student, name, value)
        else:
            super().__setattr__(name, value)

    def _student_with(self, name: str) -> nn.Module | None:
        """The student, for a name that may be its."""
        if name.startswith('_') or name in _NOT_FORWARDED:
            return None
        # not by attribute: copy and pickle ask before there is anything
        return self.__dict__.get('_modules', {}).get('architecture')

    def _is_own(self, name: str) -> bool:
        state = self.__dict__
        places = (state, state['_parameters'], state['_buffers'], state['_modules'])
        return hasattr(type(self), name) or any(name in place for place in places)
