import torch
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

import dpk_mm  # noqa: F401
from dpk_mm.compat import ssd_head


def test_it_is_needed_no_more():
    assert not ssd_head.needed()


def test_a_head_predicts_by_a_softmax():
    from mmdet.models.dense_heads import SSDHead

    head = SSDHead(
        num_classes=2,
        in_channels=(8,),
        anchor_generator=dict(
            type='SSDAnchorGenerator',
            scale_major=False,
            input_size=32,
            basesize_ratio_range=(0.15, 0.9),
            strides=[8],
            ratios=[[2]],
            min_sizes=[8],
            max_sizes=[16],
        ),
        test_cfg=ConfigDict(
            nms_pre=100, score_thr=0.0, max_per_img=100, nms=dict(type='nms', iou_threshold=1.0)
        ),
    )
    scores, boxes = head((torch.randn(1, 8, 4, 4),))
    meta = dict(img_shape=(32, 32), scale_factor=(1.0, 1.0))
    (found,) = head.predict_by_feat(scores, boxes, batch_img_metas=[meta])
    assert isinstance(found, InstanceData)
    logits = scores[0].permute(0, 2, 3, 1).reshape(-1, 3)
    best = logits.softmax(-1)[:, :-1].max()
    assert torch.isclose(found.scores.max(), best)
