"""The transformation modules by name."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import did_you_mean
from .dpk_transform import DPKTransform
from .hybrid_transform import FeatureTransform
from .other_transforms import ConvEncoderDecoderTransform, ConvTransform, MLPDecoderTransform

TRANSFORMS: dict[str, type[FeatureTransform]] = {
    'DPKTransform': DPKTransform,
    'MLPDecoderTransform': MLPDecoderTransform,
    'ConvEncoderDecoderTransform': ConvEncoderDecoderTransform,
    'ConvTransform': ConvTransform,
}
"""Name -> class; classes of your own can be added."""


def build_transform(cfg: Mapping[str, Any], also: Iterable[str] = ()) -> FeatureTransform:
    """Builds a transformation module.

    Args:
        cfg: ``type``, a name in ``TRANSFORMS`` ('DPKTransform' if it is not there), and the arguments of that class.
        also: Names that a config may hold beside them; suggested and listed for an unknown one.

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
    """Compares arguments with the signature of a class.

    Args:
        cls: The class.
        kwargs: Its arguments by name.
        also: Names that the caller takes besides; suggested and listed for an unknown one.

    Raises:
        ValueError: If the class has no such argument, or needs one that is missing.
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
    hint = did_you_mean(str(name), names, quote=True) or ';'
    return f'which is unknown{hint} Known: {", ".join(names)}.'
