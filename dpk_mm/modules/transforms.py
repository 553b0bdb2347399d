"""The transformation modules by name."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from .dpk_transform import DPKTransform
from .hybrid_transform import FeatureTransform
from .other_transforms import ConvEncoderDecoderTransform, ConvTransform, MLPDecoderTransform

TRANSFORMS: dict[str, type[FeatureTransform]] = {
    'DPKTransform': DPKTransform,
    'MLPDecoderTransform': MLPDecoderTransform,
    'ConvEncoderDecoderTransform': ConvEncoderDecoderTransform,
    'ConvTransform': ConvTransform,
}
"""Name -> class; a class of your own can be put in."""


def build_transform(cfg: Mapping[str, Any], also: Iterable[str] = ()) -> FeatureTransform:
    """Builds a transformation module.

    Args:
        cfg (Mapping): ``type``, a name in ``TRANSFORMS`` ('DPKTransform' if it is not there), and the arguments of
            that class.
        also (Iterable[str]): Names that stand beside them in a config; suggested and listed for an unknown one.

    Raises:
        ValueError: If the type or an argument is unknown, one is missing, or one does not fit. Where the
            sentence starts with an argument's name, that argument is to be changed.
    """
    kwargs = dict(cfg)
    kind = kwargs.pop('type', 'DPKTransform')
    if kind not in TRANSFORMS:
        raise ValueError(f'type is {kind!r}, {unknown(kind, TRANSFORMS)}')
    cls = TRANSFORMS[kind]
    check_arguments(cls, kwargs, also)
    return cls(**kwargs)


def check_arguments(cls: type, kwargs: Mapping[str, Any], also: Iterable[str] = ()) -> None:
    """Raises ValueError if a class takes no such arguments, or needs one that is not there.

    ``also`` are names that the one who calls takes beside those of the class; they are suggested and listed, too.
    """
    parameters = inspect.signature(cls).parameters
    for name in kwargs:
        if name not in parameters:
            known = [*parameters, *also]
            raise ValueError(f'{cls.__name__} has no argument {name!r}, {unknown(name, known)}')
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in kwargs:
            raise ValueError(f'{cls.__name__} needs {name!r}.')


def unknown(name: object, known: Iterable[str]) -> str:
    """The end of a sentence on an unknown name: the nearest known one, and all."""
    names = list(known)
    near = get_close_matches(str(name), names, n=1)
    hint = f'did you mean {near[0]!r}? ' if near else ''
    return f'which is unknown; {hint}Known: {", ".join(names)}.'
