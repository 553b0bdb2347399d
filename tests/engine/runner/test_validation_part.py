"""A part of a validation has the metrics of a full evaluation of just these samples."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.registry import DATASETS, init_default_scope
from mmengine.structures import InstanceData
from torch.utils.data import DataLoader

import dpk_mm  # noqa: F401
from dpk_mm.engine.runner.validation_part import ValidationPart, spread, validation_sets
from tools.shapes import generate_shapes

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ('sizes', 'count', 'expected'),
    [
        ([10], 4, [0, 2, 5, 7]),
        ([10], 1, [0]),
        ([6, 6], 4, [0, 3, 6, 9]),
        ([9, 3], 4, [0, 3, 6, 9]),
        (
            [100, 2],
            4,
            [0, 25, 50, 75, 100],
        ),  # none of the second would be chosen by the share alone
        ([5, 5, 5], 1, [0, 5, 10]),
        ([4, 0, 4], 2, [0, 4]),
    ],
)
def test_samples_are_spread_over_all_sets(sizes, count, expected):
    assert spread(sizes, count) == expected


@pytest.mark.parametrize('count', [1, 3, 7, 20, 50, 51, 300])
def test_no_sample_is_chosen_twice(count):
    sizes = [20, 3, 27]
    chosen = spread(sizes, count)
    assert len(set(chosen)) == len(chosen)
    assert chosen == sorted(chosen)
    assert chosen[0] == 0
    assert chosen[-1] < 50


class Detector:
    """Finds the boxes of the annotation files, moved by what depends on the file's name; some are left out."""

    def __init__(self, folders):
        self.truth = {}
        for shift, folder in enumerate(folders):
            data = json.loads((folder / 'annotations' / 'val.json').read_text())
            names = {image['id']: image['file_name'] for image in data['images']}
            kinds = {c['id']: label for label, c in enumerate(data['categories'])}
            for number, box in enumerate(data['annotations']):
                key = str(folder / 'val' / names[box['image_id']])
                x, y, w, h = box['bbox']
                move = (number % 4) * 0.12 * w * (1 + shift)
                entry = ([x + move, y, x + w + move, y + h], kinds[box['category_id']])
                if number % 5:
                    self.truth.setdefault(key, []).append(entry)

    def val_step(self, batch):
        for sample in batch['data_samples']:
            found = self.truth.get(sample.img_path, [])
            sample.pred_instances = InstanceData(
                bboxes=torch.tensor([b for b, _ in found]).reshape(-1, 4),
                labels=torch.tensor([label for _, label in found]).long(),
                scores=torch.linspace(1, 0.5, len(found)),
            )
        return batch['data_samples']


@pytest.fixture
def sets(tmp_path):
    init_default_scope('mmdet')
    folders = []
    for number, count in enumerate((9, 5)):
        folder = tmp_path / f'set{number}'
        generate_shapes(folder, num_train=1, num_val=count, seed=number)
        folders.append(folder)
    return folders


def dataset(folder, ann_file='annotations/val.json'):
    cfg = Config.fromfile(ROOT / 'configs' / 'mini' / 'faster_rcnn_dpk.py')
    one = cfg.val_dataloader.dataset
    one.update(data_root=f'{folder}/', ann_file=ann_file)
    return one


def evaluate(folders, count=None, ann_file='annotations/val.json', batch_size=2):
    from mmdet.evaluation import MultiDatasetsEvaluator
    from mmengine.dataset import DefaultSampler, pseudo_collate

    concatenated = DATASETS.build(
        dict(type='mmdet.ConcatDataset', datasets=[dataset(f, ann_file) for f in folders])
    )
    metrics = [
        dict(type='mmdet.CocoMetric', ann_file=str(f / ann_file), metric='bbox') for f in folders
    ]
    evaluator = MultiDatasetsEvaluator(metrics, dataset_prefixes=['day', 'night'])
    part = ValidationPart(concatenated, count)
    loader = DataLoader(
        part.dataset,
        batch_size,
        sampler=DefaultSampler(part.dataset, shuffle=False),
        collate_fn=pseudo_collate,
    )
    return part, part.evaluate(evaluator, Detector(folders), loader)


@pytest.mark.parametrize('count', [3, 6, 11])
def test_a_part_of_two_sets_is_as_if_the_others_were_not_in_the_files(sets, count):
    part, found = evaluate(sets, count)
    # the same images, as sets of their own, evaluated in full
    start = 0
    for folder, size in zip(sets, (9, 5), strict=True):
        data = json.loads((folder / 'annotations' / 'val.json').read_text())
        chosen = [
            data['images'][i - start]['id'] for i in part.indices if start <= i < start + size
        ]
        assert chosen
        data['images'] = [image for image in data['images'] if image['id'] in chosen]
        data['annotations'] = [a for a in data['annotations'] if a['image_id'] in chosen]
        (folder / 'annotations' / 'part.json').write_text(json.dumps(data))
        start += size
    _, expected = evaluate(sets, ann_file='annotations/part.json')
    assert found == pytest.approx(expected)
    assert 0 < found['day/coco/bbox_mAP_50'] <= 1
    assert found['day/coco/bbox_mAP'] != found['night/coco/bbox_mAP']


def test_the_whole_is_the_validation_itself(sets):
    part, found = evaluate(sets)
    assert part.whole and len(part.indices) == 14
    assert part.set_of == [0] * 9 + [1] * 5
    _, other = evaluate(sets, count=14, batch_size=5)
    assert found == pytest.approx(other)


class Mean(BaseMetric):
    default_prefix = 'mean'

    def process(self, data_batch, data_samples):
        self.results += [sample['value'] for sample in data_samples]

    def compute_metrics(self, results):
        return dict(value=sum(results) / len(results))


class Values(torch.utils.data.Dataset):
    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return dict(value=self.values[index])


class Model:
    def val_step(self, batch):
        return batch


@pytest.mark.parametrize('names', [('dataloaders', 'evaluators'), ('dataloader', 'evaluator')])
def test_a_loop_of_several_loaders(names):
    from mmengine.dataset import DefaultSampler

    loaders, evaluators = [], []
    for start in (0, 100):
        data = Values([start + i for i in range(10)])
        sampler = DefaultSampler(data, shuffle=False)
        loaders.append(DataLoader(data, 3, sampler=sampler, collate_fn=list))
        evaluators.append(Evaluator(Mean()))
    loop = SimpleNamespace(**dict(zip(names, (loaders, evaluators), strict=True)))
    found = []
    for loader, evaluator in validation_sets(SimpleNamespace(val_loop=loop)):
        part = ValidationPart(loader.dataset, 4)  # 0, 2, 5 and 7
        own = DataLoader(
            part.dataset, 3, sampler=DefaultSampler(part.dataset, shuffle=False), collate_fn=list
        )
        found.append(part.evaluate(evaluator, Model(), own))
    assert found == [{'mean/value': 3.5}, {'mean/value': 103.5}]
    assert [metric.results for evaluator in evaluators for metric in evaluator.metrics] == [[], []]
