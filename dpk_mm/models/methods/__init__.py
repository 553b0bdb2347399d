"""The methods of our configs: ``distill_losses`` by one call, for any pair of :mod:`dpk_mm.models.pairs`.

A text config reads it after its ``_base_`` line, which names the pair::

    _base_ = '../_base_/pairs/coco_faster_rcnn_r152_r50.py'
    from dpk_mm.models.methods import dpk_fgd

    model = dict(distiller=dict(distill_losses=dpk_fgd('coco/faster_rcnn', 'dpk_two_stage_text')))

What they give is plain dicts: a config that inherits this one changes any number of them by its key.
"""

from .detectors import agnl, crosskd, cwd, fgd, fgfi, gid, level_weights, mgd, pkd
from .dpk import STAGE_WEIGHTS, dpk, dpk_fgd
from .features import (
    ab,
    afd,
    at,
    crd,
    fitnet,
    ft,
    ickd,
    manifold,
    mgd_channels,
    ofd,
    reviewkd,
    tofd,
    vid,
)
from .logits import DKD_BETA, dist, dkd, hard, kd, kd_standardized, nkd
from .relations import cc, pkt, rkd, sp

__all__ = [
    'DKD_BETA',
    'STAGE_WEIGHTS',
    'ab',
    'afd',
    'agnl',
    'at',
    'cc',
    'crd',
    'crosskd',
    'cwd',
    'dist',
    'dkd',
    'dpk',
    'dpk_fgd',
    'fgd',
    'fgfi',
    'fitnet',
    'ft',
    'gid',
    'hard',
    'ickd',
    'kd',
    'kd_standardized',
    'level_weights',
    'manifold',
    'mgd',
    'mgd_channels',
    'nkd',
    'ofd',
    'pkd',
    'pkt',
    'reviewkd',
    'rkd',
    'sp',
    'tofd',
    'vid',
]
