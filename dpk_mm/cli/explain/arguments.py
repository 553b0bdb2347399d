"""Sentences on arguments that a constructor does not have, or that the config does not give."""

from __future__ import annotations

from mmengine.config import Config

from ...errors import did_you_mean
from .config_keys import at_keys, keys_of_type, keys_with_argument
from .registered import arguments_of


def unknown_argument(owner: str, argument: str, cfg: Config) -> str:
    """On an argument that the class ``owner`` does not have."""
    where = at_keys(f'{path}.{argument}' for path in keys_with_argument(owner, argument, cfg))
    known = arguments_of(owner)
    hint = did_you_mean(argument, known) or (f'; it has {", ".join(known)}.' if known else '.')
    return f'{where}{owner} has no argument {argument}{hint}'


def missing_arguments(owner: str, arguments: str, cfg: Config) -> str:
    """On arguments of the class ``owner`` that are missing; ``arguments`` as Python lists them."""
    names = arguments.replace("'", '')
    return (
        f'{at_keys(keys_of_type(owner, cfg))}{owner} needs {names}, which the config does not give.'
    )
