"""The smallest real trainings: a classifier or YOLOX that learns from another one, on noise, in a second or two."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from mmrazor.registry import MODELS
from torch.utils.data import Dataset

import dpk_mm  # noqa: F401
from dpk_mm.engine.hooks.upstream_check_hook import UpstreamCheckHook

CLASSES = ('rectangle', 'ellipse', 'triangle', 'cross', 'ring')
SIDE = 64
_count = itertools.count()


def classifier(base_channels: int = 8, **parts: Any) -> dict[str, Any]:
    """A ResNet-18 of a few channels."""
    return dict(
        _scope_='mmpretrain',
        type='ImageClassifier',
        backbone=dict(
            type='ResNet',
            depth=18,
            base_channels=base_channels,
            stem_channels=base_channels,
            out_indices=(2, 3),
            init_cfg=None,
        ),
        neck=dict(type='GlobalAveragePooling'),
        head=parts.pop(
            'head', dict(type='LinearClsHead', num_classes=5, in_channels=8 * base_channels)
        ),
        data_preprocessor=dict(num_classes=5, mean=[0.0] * 3, std=[255.0] * 3, to_rgb=True),
        **parts,
    )


def convnext(channels: int = 8) -> dict[str, Any]:
    """A ConvNeXt, whose parameters have layers for both layer-wise constructors."""
    widths = [channels * 2**i for i in range(4)]
    return dict(
        classifier(),
        backbone=dict(
            type='ConvNeXt',
            arch=dict(depths=[1, 1, 2, 1], channels=widths),
            out_indices=(2, 3),
            gap_before_final_norm=False,
            drop_path_rate=0.0,
            init_cfg=None,
        ),
        head=dict(type='LinearClsHead', num_classes=5, in_channels=widths[-1]),
    )


def yolox(channels: int = 8) -> dict[str, Any]:
    """A YOLOX of a few channels."""
    wide = [channels * 2**i for i in (1, 2, 3)]
    return dict(
        _scope_='mmdet',
        type='YOLOX',
        data_preprocessor=dict(type='DetDataPreprocessor', pad_size_divisor=32),
        backbone=dict(
            type='CSPDarknet', deepen_factor=0.33, widen_factor=channels / 64, out_indices=(2, 3, 4)
        ),
        neck=dict(
            type='YOLOXPAFPN',
            in_channels=[2 * w for w in wide],
            out_channels=channels,
            num_csp_blocks=1,
        ),
        bbox_head=dict(
            type='YOLOXHead', num_classes=5, in_channels=channels, feat_channels=channels
        ),
        train_cfg=dict(assigner=dict(type='SimOTAAssigner', center_radius=2.5)),
        test_cfg=dict(score_thr=0.01, nms=dict(type='nms', iou_threshold=0.65)),
    )


def distilled(student: dict[str, Any], teacher: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
    """The config of a ``DPKDistill``: DPK on the last stage of classifiers, FGD on a level of detectors."""
    if 'bbox_head' in student:
        source, loss = (
            'neck',
            dict(
                type='FGDLoss',
                levels=(0,),
                student_channels=student['neck']['out_channels'],
                teacher_channels=teacher['neck']['out_channels'],
                weights=dict(alpha=0, beta=0, gamma=1e-3, lam=0),
            ),
        )
    else:
        source, loss = (
            'backbone',
            dict(
                type='DPKLoss',
                transforms=dict(
                    last=dict(
                        index=1,
                        student_channels=student['head']['in_channels'],
                        teacher_channels=teacher['head']['in_channels'],
                        embed_dims=16,
                        encoder_depth=1,
                        decoder_depth=1,
                        num_heads=2,
                        position_grid=2,
                    )
                ),
            ),
        )
    recorder = dict(feats=dict(type='ModuleOutputs', source=source))
    mapping = dict(
        student_feats=dict(recorder='feats', from_student=True),
        teacher_feats=dict(recorder='feats', from_student=False),
    )
    own = dict(recorder)
    if source == 'neck':
        own['samples'] = dict(type='ModuleInputs', source='')
        mapping['data_samples'] = dict(recorder='samples', from_student=True, data_idx=1)
    return dict(
        _scope_='mmrazor',
        type='DPKDistill',
        architecture=student,
        teacher=teacher,
        teacher_ckpt=None,
        distiller=dict(
            type='DPKDistiller',
            student_recorders=own,
            teacher_recorders=recorder,
            distill_losses=dict(loss_kd=loss),
            loss_forward_mappings=dict(loss_kd=mapping),
        ),
        **kwargs,
    )


def build(cfg: dict[str, Any]) -> Any:
    """The model of a config, the same at every call."""
    init_default_scope('mmrazor')
    torch.manual_seed(0)
    return MODELS.build(ConfigDict(cfg))


class Noise(Dataset):
    """Random images of the five classes, with a pipeline that can be looked at."""

    metainfo = dict(classes=CLASSES)
    CLASSES = CLASSES

    def __init__(self, size: int, boxes: bool) -> None:
        self.size, self.boxes = size, boxes
        self.pipeline: Any = None
        self.skipped: Any = ()

    def __len__(self) -> int:
        return self.size

    def update_skip_type_keys(self, keys: Any) -> None:
        self.skipped = keys

    def get_gt_labels(self) -> np.ndarray:
        return np.array([i % 5 for i in range(self.size)])

    def __getitem__(self, index: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(index)
        image = torch.randint(0, 255, (3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
        return dict(inputs=image, data_samples=self._sample(index))

    def _sample(self, index: int) -> Any:
        if not self.boxes:
            from mmpretrain.structures import DataSample

            return DataSample().set_gt_label(index % 5)
        from mmdet.structures import DetDataSample
        from mmdet.structures.bbox import HorizontalBoxes

        sample = DetDataSample(
            metainfo=dict(
                img_id=index,
                img_shape=(SIDE, SIDE),
                ori_shape=(SIDE, SIDE),
                batch_input_shape=(SIDE, SIDE),
                scale_factor=(1.0, 1.0),
            )
        )
        sample.gt_instances = InstanceData(
            bboxes=HorizontalBoxes([[8.0, 8.0, 40.0, 48.0]]), labels=torch.tensor([index % 5])
        )
        sample.ignored_instances = InstanceData(bboxes=HorizontalBoxes(torch.zeros(0, 4)))
        return sample


class Counted(BaseMetric):
    """A metric that grows by one at each evaluation."""

    calls = 0

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(len(data_samples))

    def compute_metrics(self, results: list[int]) -> dict[str, float]:
        self.calls += 1
        return dict(acc=float(self.calls))


class Watch(Hook):
    """Calls functions of the test, after every other hook."""

    priority = 'LOWEST'

    def __init__(self, **functions: Any) -> None:
        for name, function in functions.items():
            setattr(self, name, function)


def runner(model: Any, work_dir: Any, *hooks: Any, **kwargs: Any) -> Runner:
    """Two epochs of two iterations each, with a validation after each, or what ``kwargs`` say."""
    student = getattr(model, 'architecture', model)
    boxes = hasattr(student, 'bbox_head')
    loader = dict(
        dataset=Noise(kwargs.pop('size', 8), boxes),
        batch_size=4,
        num_workers=0,
        collate_fn=dict(type='pseudo_collate' if boxes else 'default_collate'),
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    hooks = (*hooks,)
    if hasattr(model, 'distiller') and not boxes and kwargs.pop('ratio', True):
        hooks = (dict(type='mmrazor.FixedMaskRatioHook'), *hooks)
    validation = kwargs.pop('validation', True)
    own = dict(randomness=dict(seed=0))
    if 'model_wrapper_cfg' in kwargs:  # which the Runner looks for in the whole config
        own['model_wrapper_cfg'] = kwargs.pop('model_wrapper_cfg')
    settings: dict[str, Any] = dict(
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.01)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        randomness=dict(seed=0),
    )
    if validation:
        settings.update(
            val_dataloader=dict(loader, dataset=Noise(4, boxes)),
            val_cfg=dict(),
            val_evaluator=[Counted()],
            test_dataloader=dict(loader, dataset=Noise(4, boxes)),
            test_cfg=dict(),
            test_evaluator=[Counted()],
        )
    settings.update(kwargs)
    settings['train_dataloader'] = dict(loader, **settings['train_dataloader'])
    made = Runner(
        model=model,
        work_dir=str(work_dir),
        custom_hooks=list(hooks),
        experiment_name=f'small_{next(_count)}',
        default_scope='mmdet' if boxes else 'mmpretrain',
        log_level='WARNING',
        cfg=Config(own),
        **settings,
    )
    made.register_hook(UpstreamCheckHook())
    return made
