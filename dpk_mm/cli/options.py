"""The options that the tools share, and the config that they lead to.

The conventions (options, work folder, order of precedence) are those of mmdet's and mmpretrain's tools.
"""

from __future__ import annotations

import argparse
import difflib
import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict, DictAction
from mmengine.runner import Runner

from ..errors import UsageError
from .errors import TRACEBACK

# Read by the Runner from the config, besides the arguments of its constructor.
RUNNER_KEYS = {
    *inspect.signature(Runner.__init__).parameters,
    *('activation_checkpointing', 'compile', 'custom_imports', 'efficient_conv_bn_eval'),
    *('find_unused_parameters', 'model_wrapper_cfg', 'runner_type', 'sync_bn'),
}


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that the training and the test tool share."""
    parser.add_argument('--work-dir', help='folder of logs and checkpoints')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='settings that replace those of the config, such as optim_wrapper.optimizer.lr=0.01 '
        'or key="[(a,b),(c,d)]" (with the quotation marks, without white space)',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    # torch.distributed.launch gives the first spelling or the second, by its version
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    parser.add_argument(
        '--traceback',
        action='store_true',
        help='show where in the code an error came from (as DPK_TRACEBACK=1 does)',
    )


def apply_common_arguments(args: argparse.Namespace) -> None:
    """Puts into the environment what of :func:`add_common_arguments` is read from there."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if args.traceback:
        os.environ[TRACEBACK] = '1'


def load_config(
    filename: str, options: Mapping[str, Any] | None = None, work_dir: str | None = None
) -> Config:
    """Reads a config and applies what the command line says about it.

    Args:
        filename: The config.
        options: Dotted keys and values of `--cfg-options`.
        work_dir: Folder of the run; else that of the config, else `./work_dirs/<name of the
            config>`.

    Returns:
        The config, with `work_dir` set.

    Raises:
        UsageError: If the file is not there, or a key of `options` is a typing error.
    """
    if not Path(filename).is_file():
        raise UsageError(f'there is no config {filename}: give the path of a config, see configs/')
    cfg = Config.fromfile(filename)
    for key in options or {}:
        _check_option(cfg, key)
    if options:
        cfg.merge_from_dict(dict(options))
    if work_dir is not None:
        cfg.work_dir = work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('./work_dirs', Path(filename).stem)
    return cfg


def _check_option(cfg: Config, dotted: str) -> None:
    """Refuses a key of `--cfg-options` that leads nowhere and looks like one that is there.

    The last part is not looked at, except at the top: a new setting is often right there, and a
    wrong one fails when the object is built.
    """
    node: Any = cfg
    parts = dotted.split('.')
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        if isinstance(node, (list, tuple)):
            if not part.isdigit() or int(part) >= len(node):
                return  # mmengine has its own sentence for it
            node = node[int(part)]
        elif isinstance(node, (Config, ConfigDict)):
            if part not in node:
                known = [*node] if depth else {*node, *RUNNER_KEYS}
                close = difflib.get_close_matches(part, map(str, known), n=1, cutoff=0.8)
                if close and part not in known and not (last and depth):
                    parts[depth] = close[0]
                    raise UsageError(
                        f'--cfg-options {dotted}: the config has no {part}; did you mean '
                        f'{".".join(parts)}?'
                    )
                return
            node = node[part]
        else:
            return
