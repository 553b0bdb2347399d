"""Pairs of the zoos in the short form, on a few drawn images: training, validation, export, and resuming."""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, DefaultScope

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dpk_mm.checkpoint.pretrained import remove_pretrained
from dpk_mm.checkpoint.resume import prepare_resume
from dpk_mm.checkpoint.student import export_student
from dpk_mm.checkpoint.student_config import student_config
from dpk_mm.engine.runner.build import build_runner
from dpk_mm.engine.runner.prepare import prepare_config
from dpk_mm.errors import did_you_mean
from dpk_mm.models.pairing import complete
from dpk_mm.models.pairing.networks import read_network
from tools.shapes import generate_shapes

_count = itertools.count()


class ZooPair(NamedTuple):
    """What a user writes.

    Attributes:
        student: The config that is inherited.
        teacher: A name, or the text of a model's config.
        method: The method.
        more: Further arguments of the model, as text.
        side: Of the images.
    """

    student: str
    teacher: str
    method: str
    more: str = ''
    side: int = 128


PAIRS: dict[str, ZooPair] = {
    'fcos': ZooPair(
        'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
        'mmdet::fcos/fcos_r101-caffe_fpn_gn-head-1x_coco.py',
        'dpk_fgd',
    ),
    'atss': ZooPair(
        'mmdet::atss/atss_r18_fpn_8xb8-amp-lsj-200e_coco.py',
        'mmdet::atss/atss_r50_fpn_1x_coco.py',
        'dpk_fgd',
    ),
    'gfl': ZooPair(
        'mmdet::gfl/gfl_r50_fpn_1x_coco.py', 'mmdet::gfl/gfl_r101_fpn_ms-2x_coco.py', 'pkd'
    ),
    'rtmdet': ZooPair(
        'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
        'mmdet::rtmdet/rtmdet_s_8xb32-300e_coco.py',
        'dpk_fgd',
    ),
    'yolox': ZooPair(
        'mmdet::yolox/yolox_tiny_8xb8-300e_coco.py',
        'mmdet::yolox/yolox_s_8xb8-300e_coco.py',
        'dpk_fgd',
    ),
    'mask_rcnn': ZooPair(
        'mmdet::mask_rcnn/mask-rcnn_r18_fpn_8xb8-amp-lsj-200e_coco.py',
        'mmdet::mask_rcnn/mask-rcnn_r50_fpn_2x_coco.py',
        'dpk_fgd',
    ),
    'cascade': ZooPair(
        'mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py',
        'mmdet::cascade_rcnn/cascade-rcnn_r101_fpn_20e_coco.py',
        'fgd',
    ),
    'reppoints': ZooPair(
        'mmdet::reppoints/reppoints-moment_r50_fpn-gn_head-gn_2x_coco.py',
        'mmdet::reppoints/reppoints-moment_r101_fpn-gn_head-gn_2x_coco.py',
        'mgd',
    ),
    'tood': ZooPair(
        'mmdet::tood/tood_r50_fpn_1x_coco.py', 'mmdet::tood/tood_r101_fpn_ms-2x_coco.py', 'cwd'
    ),
    'centernet': ZooPair(
        'mmdet::centernet/centernet_r18_8xb16-crop512-140e_coco.py',
        'mmdet::centernet/centernet_r18-dcnv2_8xb16-crop512-140e_coco.py',
        'dpk_fgd',
    ),
    'deformable_detr': ZooPair(
        'mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py',
        'mmdet::deformable_detr/deformable-detr-refine-twostage_r50_16xb2-50e_coco.py',
        'dpk_fgd',
    ),
    'dino': ZooPair(
        'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py',
        'mmdet::dino/dino-4scale_r50_8xb2-36e_coco.py',
        'dpk_fgd',
        side=224,  # 900 queries are chosen from at least as many cells
    ),
    'retinanet_swin': ZooPair(
        'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py',
        'mmdet::swin/retinanet_swin-t-p4-w7_fpn_1x_coco.py',
        'dpk_fgd',
    ),
    'retinanet_convnext': ZooPair(
        'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py',
        'mmdet::convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py',
        'dpk_fgd',
    ),
    'convnext_student': ZooPair(
        'mmdet::convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py',
        'mmdet::mask_rcnn/mask-rcnn_r101_fpn_2x_coco.py',
        'dpk',
    ),
    'faster_gfl': ZooPair(
        'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
        'mmdet::gfl/gfl_r101_fpn_ms-2x_coco.py',
        'dpk_fgd',
    ),
    'ssd': ZooPair(
        'mmdet::ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py',
        'mmdet::ssd/ssd300_coco.py',
        'dpk_fgd',
        side=320,
    ),
    'mobilenet_v3': ZooPair(
        'mmpretrain::mobilenet_v3/mobilenet-v3-small_8xb128_in1k.py',
        'mmpretrain::resnet/resnet50_8xb32_in1k.py',
        'kd+dpk',
    ),
    'regnet': ZooPair(
        'mmpretrain::regnet/regnetx-400mf_8xb128_in1k.py',
        'mmpretrain::resnet/resnet50_8xb32_in1k.py',
        'fitnet',
    ),
    'repvgg': ZooPair(
        'mmpretrain::repvgg/repvgg-A0_8xb32_in1k.py',
        'mmpretrain::repvgg/repvgg-B1_8xb32_in1k.py',
        'kd+dpk',
    ),
    'efficientnet_v2': ZooPair(
        'mmpretrain::efficientnet_v2/efficientnetv2-s_8xb32_in1k-384px.py',
        'mmpretrain::convnext/convnext-tiny_32xb128_in1k.py',
        'dpk',
    ),
    'vit': ZooPair(
        'mmpretrain::deit/deit-small_4xb256_in1k.py',
        'mmpretrain::vision_transformer/vit-base-p16_64xb64_in1k.py',
        'kd+dpk',
        side=224,
    ),
    'timm_teacher': ZooPair(
        'mmpretrain::resnet/resnet18_8xb32_in1k.py',
        "dict(type='mmpretrain.TimmClassifier', model_name='resnet34', pretrained=False)",
        'kd+dpk',
    ),
    'timm_student': ZooPair(
        'mmpretrain::resnet/resnet50_8xb32_in1k.py',
        'mmpretrain::resnet/resnet50_8xb32_in1k.py',
        'kd+dpk',
        "architecture=dict(type='mmpretrain.TimmClassifier', model_name='mobilenetv2_100', pretrained=False)",
    ),
}


def write(pair: ZooPair, path: Path) -> Path:
    """The config of two lines."""
    teacher = pair.teacher if pair.teacher.startswith('dict(') else repr(pair.teacher)
    more = pair.more
    if 'architecture=' not in more:
        more = 'architecture=_base_.model' + (f', {more}' if more else '')
    begin = "_delete_=True, _scope_='mmrazor'" if pair.more else "_scope_='mmrazor'"
    path.write_text(
        f"_base_ = '{pair.student}'\n"
        f"model = dict({begin}, type='DPKDistill', {more}, teacher={teacher}, teacher_ckpt=None, "
        f'method={pair.method!r})\n'
    )
    return path


def draw(folder: Path, side: int = 128) -> Path:
    """A COCO set and a folder of class folders, four images each."""
    generate_shapes(folder / 'shapes', num_train=2, num_val=2, image_size=side)
    for split in ('train', 'val'):  # the heads of the zoo have COCO's 80 classes
        path = folder / 'shapes/annotations' / f'{split}.json'
        content = json.loads(path.read_text())
        names = DATASETS.get('mmdet.CocoDataset').METAINFO['classes']
        content['categories'] = [dict(id=i + 1, name=name) for i, name in enumerate(names)]
        for found in content['annotations']:  # and some ask for masks: the boxes
            x, y, width, height = found['bbox']
            right, bottom = x + width, y + height
            found['segmentation'] = [[x, y, right, y, right, bottom, x, bottom]]
        path.write_text(json.dumps(content))
    random = np.random.default_rng(0)
    for index in range(4):
        for split in ('train', 'val'):
            place = folder / 'classes' / split / f'class{index % 2}'
            place.mkdir(parents=True, exist_ok=True)
            image = random.integers(0, 255, (side, side, 3), dtype=np.uint8)
            cv2.imwrite(str(place / f'{index}.png'), image)
    return folder


def shrink(cfg: Config, folder: Path, side: int, work_dir: Path) -> Config:
    """The config on the drawn images: two epochs of one iteration, a validation at the end."""
    cfg = copy.deepcopy(cfg)
    detector = cfg.default_scope == 'mmdet'
    for split in ('train', 'val', 'test'):
        loader = cfg[f'{split}_dataloader']
        loader.update(batch_size=2 if detector else 4, num_workers=0, persistent_workers=False)
        loader.pop('prefetch_factor', None)
        _on_drawn(loader.dataset, folder, 'train' if split == 'train' else 'val', detector)
        _smaller(loader.dataset, side)
        if split == 'train' and not detector:
            loader.sampler = dict(type='DefaultSampler', shuffle=True)
    for name in ('val_evaluator', 'test_evaluator'):
        for evaluator in cfg[name] if isinstance(cfg[name], list) else [cfg[name]]:
            if 'ann_file' in evaluator:
                evaluator.ann_file = str(folder / 'shapes/annotations/val.json')
    for hook in cfg.get('custom_hooks') or []:
        _smaller(hook, side)
    for model in (cfg.model, cfg.model.architecture):
        _smaller((model.get('data_preprocessor') or {}).get('batch_augments') or [], side)
    remove_pretrained(cfg.model)  # nothing is downloaded: random weights will do
    cfg.train_cfg = dict(by_epoch=True, max_epochs=2, val_interval=2)
    schedulers = cfg.get('param_scheduler') or []
    schedulers = schedulers if isinstance(schedulers, list) else [schedulers]
    cfg.param_scheduler = [s for s in schedulers if s.get('begin', 0) < 2]
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=1)
    cfg.default_hooks.logger.interval = 1
    cfg.randomness = dict(seed=0)
    cfg.work_dir = str(work_dir)
    cfg.log_level = 'WARNING'
    return cfg


def _on_drawn(dataset: Any, folder: Path, split: str, detector: bool) -> None:
    while 'dataset' in dataset:
        if 'times' in dataset:
            dataset.times = 1
        dataset = dataset.dataset
    if detector:
        dataset.update(
            data_root=str(folder / 'shapes') + '/',
            ann_file=f'annotations/{split}.json',
            data_prefix=dict(img=f'{split}/'),
        )
        dataset.pop('filter_cfg', None)
    else:
        pipeline = dataset.pipeline
        dataset.clear()
        dataset.update(
            type='CustomDataset', data_root=str(folder / 'classes' / split), pipeline=pipeline
        )


def _smaller(node: Any, side: int) -> None:
    """Every size in a pipeline becomes ``side``."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key in ('scale', 'scales', 'img_scale', 'size', 'crop_size', 'resize_scale'):
                node[key] = _sized(value, side)
            else:
                _smaller(value, side)
    elif isinstance(node, (list, tuple)):
        for value in node:
            _smaller(value, side)


def _sized(value: Any, side: int) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_sized(item, side) for item in value)
    return side if isinstance(value, int) and value > side else value


def narrow(model: Any, width: int) -> bool:
    """A ResNet becomes a ResNet-18 of ``width`` channels, and what reads it fits; returns whether it is one."""
    backbone = model.get('backbone') or {}
    if backbone.get('type') != 'ResNet':
        return False
    widest = 64 if backbone.depth < 50 else 256
    backbone.update(depth=18, base_channels=width, stem_channels=width, init_cfg=None)
    for part in ('neck', 'head'):
        reader = model.get(part) or {}
        reader = reader[0] if isinstance(reader, list) else reader
        if 'in_channels' in reader:
            given = reader.in_channels
            fitted = [c * width // widest for c in (given if isinstance(given, list) else [given])]
            reader.in_channels = fitted if isinstance(given, list) else fitted[0]
    return True


def load(pair: ZooPair, folder: Path, work_dir: Path) -> Config:
    """The completed config on the drawn images, with small encoders and decoders."""
    short = Config.fromfile(write(pair, work_dir / 'short.py'))
    if 'architecture=' not in pair.more:
        narrowed = narrow(short.model.architecture, 16)
        for key in [key for key in short.model if key in short.model.architecture]:
            if key not in ('type', '_scope_'):
                del short.model[key]  # what the base has merged into it
        if narrowed:
            short.model.teacher = read_network(short.model.teacher, 'model.teacher', None).model
            narrow(short.model.teacher, 32)
    cfg = complete(shrink(short, folder, pair.side, work_dir / 'run')).cfg
    for loss in cfg.model.distiller.distill_losses.values():
        for stage in loss.get('transforms', {}).values():
            stage.update(encoder_depth=1, decoder_depth=1, embed_dims=64, decoder_embed_dims=64)
    return cfg


def train(cfg: Config) -> Any:
    """Trains as ``tools/train.py`` does, and returns the runner."""
    cfg = copy.deepcopy(cfg)
    cfg.experiment_name = f'pair_{next(_count)}'
    cfg.visualizer.name = cfg.experiment_name  # or two runs would share one
    prepare_config(cfg)
    prepare_resume(cfg)
    runner = build_runner(cfg)
    runner.train()
    return runner


def resume(cfg: Config, checkpoint: Path, work_dir: Path) -> Any:
    """Goes on from a checkpoint in another folder."""
    cfg = copy.deepcopy(cfg)
    cfg.work_dir, cfg.resume, cfg.load_from = str(work_dir), True, str(checkpoint)
    return train(cfg)


def export_and_load(cfg: Config, checkpoint: Path, out: Path) -> torch.nn.Module:
    """Exports the student and loads it strictly into the plain model of its own config."""
    export_student(str(checkpoint), str(out))
    plain = student_config(cfg)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(plain.model)
    state = torch.load(out, weights_only=False)['state_dict']
    model.load_state_dict(state, strict=True)
    return model


class Timing(NamedTuple):
    """Processor seconds of a pair.

    Attributes:
        probe: Of completing the short config, at full size.
        dry_run: Of two iterations, validation, export and a strict load, on small images.
    """

    probe: float
    dry_run: float


def dry_run(pair: ZooPair, folder: Path, work_dir: Path) -> Timing:
    """Completes a pair as it is, then runs it narrow on drawn images.

    Args:
        pair: The pair.
        folder: Of :func:`draw`.
        work_dir: An empty folder.
    """
    short = Config.fromfile(write(pair, work_dir / 'short.py'))
    begin = time.process_time()
    complete(short)
    probed = time.process_time()
    cfg = load(pair, folder, work_dir)
    runner = train(cfg)
    export_and_load(runner.cfg, work_dir / 'run/epoch_2.pth', work_dir / 'student.pth')
    return Timing(probed - begin, time.process_time() - probed)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('names', nargs='*', metavar='PAIR', help=f'of {", ".join(PAIRS)}; all')
    return parser.parse_args()


def main() -> int:
    names = parse_args().names or [*PAIRS]
    unknown = [name for name in names if name not in PAIRS]
    if unknown:
        sys.exit(f'error: there is no pair {unknown[0]}{did_you_mean(unknown[0], PAIRS) or "."}')
    print('| pair | student | teacher | method | probe | dry run |\n|---|---|---|---|--:|--:|')
    failed = False
    with tempfile.TemporaryDirectory() as place:
        for name in names:
            pair, work_dir = PAIRS[name], Path(place) / name
            folder = Path(place) / f'drawn{pair.side}'
            if not folder.is_dir():
                draw(folder, pair.side)
            work_dir.mkdir()
            try:
                timing = dry_run(pair, folder, work_dir)
                result = f'{timing.probe:.1f} s | {timing.dry_run:.1f} s'
            except Exception as error:  # the next pair is tried all the same
                failed = True
                result = f'failed | {type(error).__name__}: {error}'
            shutil.rmtree(work_dir)
            sides = (side.rpartition('/')[2] for side in (pair.student, pair.teacher))
            print(f'| {name} | {" | ".join(sides)} | {pair.method} | {result} |', flush=True)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
