"""mmdet 3.3.0 cannot predict with an SSD: its head has no ``loss_cls``, which the prediction asks for."""

from __future__ import annotations

from ._patch import Patch, is_installed


def needed() -> bool:
    """Whether the class of the head lacks the attribute."""
    if not is_installed('mmdet'):
        return False
    from mmdet.models.dense_heads import SSDHead

    return not hasattr(SSDHead, 'loss_cls')


def apply() -> None:
    """Gives the class a ``loss_cls`` without settings of its own: scores are then those of a softmax, as SSD's are."""
    from mmdet.models.dense_heads import SSDHead

    SSDHead.loss_cls = None


PATCH = Patch(
    name='ssd_head',
    symptom="validation or test of an SSD: 'SSDHead' object has no attribute 'loss_cls'",
    threads=(),
    obsolete_when='SSDHead of a released mmdet has a loss_cls, or its prediction does not ask for one',
    needed=needed,
    apply=apply,
)
