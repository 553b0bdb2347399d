"""mmrazor's own feature distillation on a pair of ours: what its users pay today."""

from __future__ import annotations

import copy
from typing import Any

from mmengine.config import Config, ConfigDict


def mmrazor_config(
    cfg: Config, method: str, channels: tuple[int, int], levels: tuple[int, ...] = (0, 1, 2, 3)
) -> Config:
    """Replaces the losses of a detection config by mmrazor's PKD, CWD, MGD or FBKD.

    The arguments are those of mmrazor's own configs for Faster R-CNN, which run on all levels.

    Args:
        cfg: A distillation config whose recorder of the FPN is ``neck``.
        method: 'PKD', 'CWD', 'MGD' or 'FBKD'.
        channels: Of the student's and of the teacher's neck.
        levels: Positions of the levels.

    Returns:
        A new config.
    """
    losses: dict[str, Any] = {}
    connectors: dict[str, Any] = {}
    mappings: dict[str, Any] = {}
    for level in levels:
        name = f'loss_{level}'
        links: dict[bool, str | None] = {True: None, False: None}
        arguments = ('preds_S', 'preds_T')
        if method == 'PKD':
            losses[name] = dict(type='PKDLoss', loss_weight=6)
        elif method == 'CWD':
            losses[name] = dict(type='ChannelWiseDivergence', tau=1, loss_weight=10)
        elif method == 'MGD':
            links[True] = f'{name}_student'
            connectors[links[True]] = dict(
                type='MGDConnector',
                student_channels=channels[0],
                teacher_channels=channels[1],
                lambda_mgd=0.45,
            )
            losses[name] = dict(type='MGDLoss', alpha_mgd=5e-7)
        elif method == 'FBKD':
            arguments = ('s_input', 't_input')
            stride = max(1, 8 >> level)  # 8, 4, 2, 1: the non-local part is quadratic in cells
            for from_student, side in ((True, 'Student'), (False, 'Teacher')):
                links[from_student] = f'{name}_{side.lower()}'
                connectors[f'{name}_{side.lower()}'] = dict(
                    type=f'FBKD{side}Connector',
                    in_channels=channels[0 if from_student else 1],
                    reduction=4,
                    mode='dot_product',
                    sub_sample=True,
                    maxpool_stride=stride,
                )
            losses[name] = dict(type='FBKDLoss')
        else:
            raise ValueError(f"method must be 'PKD', 'CWD', 'MGD' or 'FBKD', but is {method!r}.")
        mappings[name] = {
            argument: dict(recorder='neck', from_student=side, data_idx=level)
            | (dict(connector=links[side]) if links[side] else {})
            for argument, side in zip(arguments, (True, False), strict=True)
        }
    out = copy.deepcopy(cfg)
    recorder = dict(neck=dict(type='ModuleOutputs', source='neck'))
    out.model.distiller = ConfigDict(
        type='DPKDistiller',
        student_recorders=recorder,
        teacher_recorders=recorder,
        distill_losses=losses,
        connectors=connectors,
        loss_forward_mappings=mappings,
    )
    return out
