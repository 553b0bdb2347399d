"""Reads what a config says of a network: a model, the name of a zoo config, or a file."""

from __future__ import annotations

import copy
import os.path as osp
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config
from mmengine.utils import get_installed_path

from ...checkpoint.student_config import student_config
from ...checkpoint.type_names import type_name, type_scopes
from ...errors import UsageError, nearest, without_period

SCOPES = ('mmdet', 'mmpretrain')


@dataclass
class Network:
    """A network as a config describes it.

    Attributes:
        key: Where it stands, ``'model.architecture'`` or ``'model.teacher'``.
        model: Its config, with ``_scope_``.
        scope: The package that its parts are registered with.
        name: The zoo name or the file that it was read from, or None.
        whole: The whole config of that file, or None.
    """

    key: str
    model: ConfigDict
    scope: str
    name: str | None = None
    whole: Config | None = None


def read_network(value: Any, key: str, default_scope: str | None) -> Network:
    """The network that ``value`` names or describes.

    Args:
        value: A model's config, ``'package::config'``, or the path of a config.
        key: Where it stands, for the sentences.
        default_scope: The scope of a model that does not say its own.

    Raises:
        UsageError: (a ValueError) If it is none of these, the file has no model, a student has ``pretrained=True``, or
            something beside ``cfg_path`` would be lost.
    """
    if isinstance(value, Mapping) and 'type' not in value and 'cfg_path' in value:
        if value.get('pretrained') and key == 'model.architecture':
            raise UsageError(
                f"{key} has pretrained=True, which the short form does not load: give the student's checkpoint as "
                'model.student_ckpt.'
            )
        defaults = {
            k: v for k, v in value.items() if k not in ('cfg_path', 'pretrained', '_scope_')
        }
        network = read_network(value['cfg_path'], key, default_scope)
        for name, setting in defaults.items():
            if network.model.setdefault(name, setting) != setting:
                raise UsageError(
                    f'{key} has cfg_path and {name}, which {value["cfg_path"]} sets already, and what stands beside '
                    'cfg_path is taken only where it says nothing: write a config of your own that inherits it and '
                    f'changes {name}, and give its path as {key}.'
                )
        return network
    if isinstance(value, str):
        whole = _read(value, key)
        model = whole.model
        package = value.partition('::')[0] if '::' in value else default_scope
        scope = _scope_of(model, whole.get('default_scope') or package)
        network = Network(key, model, scope, value, whole)
        top = whole.get('data_preprocessor')
        if top and not model.get('data_preprocessor'):
            model.data_preprocessor = with_type(top, scope)
    elif isinstance(value, Mapping) and 'type' in value:
        model = ConfigDict(copy.deepcopy(value))
        network = Network(key, model, _scope_of(model, default_scope))
    else:
        raise UsageError(
            f"{key} is {value!r}, but the config of a model, a name such as 'mmdet::fcos/fcos_r50.py', or the path of "
            'a config was expected.'
        )
    if network.scope not in SCOPES:
        raise UsageError(
            f'{key} is a {type_name(network.model.type)} of {network.scope or "no known package"}, but a detector of '
            "mmdet or a classifier of mmpretrain was expected; set _scope_='mmdet' or 'mmpretrain' in it if it is one."
        )
    network.model._scope_ = network.scope
    return network


def inherited_model(filename: str | None) -> dict[str, Any]:
    """``model`` of the plain config that a distillation inherits, without ``_scope_``; empty if there is none.

    Args:
        filename: The config of the distillation; None, or a file that is gone, for one that was not read from a file.
    """
    if not filename or not osp.isfile(filename):
        return {}
    for base in Config._get_base_files(filename):
        file, _ = Config._get_cfg_path(base, filename)
        model = Config.fromfile(file).get('model')
        if isinstance(model, Mapping):  # bases have no key in common: it is in one of them
            return inherited_model(file) if 'architecture' in model else without_scope(model)
    return {}


def without_scope(value: Any) -> Any:
    """A config's value without ``_scope_``, which mmengine adds to what is inherited from another package."""
    if isinstance(value, Mapping):
        return {key: without_scope(item) for key, item in value.items() if key != '_scope_'}
    if isinstance(value, (list, tuple)):
        return type(value)(map(without_scope, value))
    return value


def with_type(preprocessor: Mapping[str, Any], scope: str) -> ConfigDict:
    """A preprocessor that stands at the top of a config, with the type that mmpretrain's classifiers fill in."""
    settings = ConfigDict(copy.deepcopy(preprocessor))
    if 'type' not in settings and scope == 'mmpretrain':
        settings.type = 'ClsDataPreprocessor'
    return settings


def _scope_of(model: Mapping[str, Any], default: str | None) -> str:
    scope = model.get('_scope_')
    if scope is None:
        found = type_scopes(model.get('type', ''))
        scope = next((place for place in found if place in SCOPES), found[0] if found else None)
    return str(scope or default or '')


def _read(name: str, key: str) -> Config:
    package, found, _ = name.partition('::')
    if found:
        whole = _read_zoo(name, package, key)
    else:
        if not osp.isfile(name):
            raise UsageError(
                f'{key}: there is no config {name}; give the path of a config, or a zoo name such as '
                "'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py'."
            )
        whole = Config.fromfile(name)
    if not isinstance(whole.get('model'), dict):
        raise UsageError(f'{key}: {name} has no model = dict(...).')
    if 'architecture' in whole.model:  # a student of a distillation
        if isinstance(whole.model.architecture, str):
            return _read(whole.model.architecture, key)
        whole = student_config(whole)
    return whole


def _read_zoo(name: str, package: str, key: str) -> Config:
    if find_spec(package) is None:  # mmengine would install it
        raise UsageError(
            f'{key}: {name} names the package {package}, which is not installed here; the zoos are mmdet:: and '
            'mmpretrain::.'
        )
    name = name if name.endswith('.py') else f'{name}.py'
    try:
        return get_config(name)
    except (FileNotFoundError, OSError):
        folder = Path(get_installed_path(package)) / '.mim' / 'configs'
        known = {path.stem: path for path in folder.rglob('*.py') if '_base_' not in path.parts}
        close = nearest(Path(name.partition('::')[2]).stem, known, 0.0)
        meant = f'; did you mean {package}::{known[close].relative_to(folder)}?' if close else '.'
        raise UsageError(
            f'{key}: {package} has no config {name.partition("::")[2]}{meant}'
        ) from None
    except Exception as error:
        raise UsageError(f'{key}: {name} cannot be read: {without_period(error)}.') from error
