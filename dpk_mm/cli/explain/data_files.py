"""Sentences on files and data sets that do not exist."""

from __future__ import annotations

import os

from mmengine.config import Config

from .config_keys import all_dicts, at_keys, is_type


def missing_file(path: str, cfg: Config) -> str:
    """On a file that could not be opened, with the key that its path comes from."""
    keys = []
    for place, node in all_dicts(cfg):
        if not place:
            continue  # variables at the top, from which the config was made
        base = str(node.get('data_root') or '')
        parts = {key: value for key, value in node.items() if isinstance(value, str)}
        prefix = node.get('data_prefix')
        if isinstance(prefix, dict):
            parts |= {f'data_prefix.{k}': v for k, v in prefix.items() if isinstance(v, str)}
        for key, value in parts.items():
            if key == 'data_root' or not value:
                continue
            whole = os.path.join(base, value)
            if path == whole or path.startswith(whole.rstrip('/') + '/'):
                with_root = f' (in {place}.data_root, {base})' if base and whole != value else ''
                keys.append(f'{place}.{key} = {value}{with_root}')
        if not keys and base and path.startswith(base):
            keys.append(f'{place}.data_root = {base}')
    # the same data set often stands under several keys, of which the shortest is the clearest
    where = f'{min(keys, key=len)}: ' if keys else ''
    parent = os.path.dirname(path)
    depth = 'but its folder does' if os.path.isdir(parent) else f'nor does the folder {parent}'
    return f'{where}{path} does not exist, {depth}; set the path to where the data are.'


def missing_dataset(name: str, folder: str, cfg: Config) -> str:
    """On a data set of mmpretrain, by its type, whose files are not in its folder."""
    keys = [
        f'{path}.data_root = {folder}'
        for path, node in all_dicts(cfg)
        # a pipeline of loaders repeats it, and what they wrap does, too
        if '_dataloader' in path
        and is_type(node, name)
        and str(node.get('data_root', '')).rstrip('/') == folder
    ]
    return (
        f'{at_keys(keys)}the files of {name} are not there; unpack them there, set data_root to where they are, or '
        'let mmpretrain fetch them with download=True beside it.'
    )
