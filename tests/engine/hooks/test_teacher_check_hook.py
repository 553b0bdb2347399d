"""A teacher that is right for 80 of 100 images, by construction."""

import json
import logging
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner
from mmrazor.registry import HOOKS, MODELS
from torch import nn
from torch.utils.data import Dataset

import dpk_mm  # noqa: F401
from dpk_mm.errors import UsageError
from tests.helpers.forked import run_ranks
from tools.shapes import generate_shapes

ROOT = Path(__file__).parents[3]
SIZE, CLASSES, WRONG_FROM = 100, 5, 80


@DATASETS.register_module(force=True)
class TeacherCheckImages(Dataset):
    """Coloured noise; the labels are in a file."""

    metainfo = dict(classes=tuple('abcde'))

    def __init__(self, labels):
        g = torch.Generator().manual_seed(0)
        colour = 255 * torch.rand(SIZE, 3, 1, 1, generator=g)
        noise = 60 * torch.randn(SIZE, 3, 32, 32, generator=g)
        self.images = (colour + noise).clamp(0, 255).byte()
        self.labels = json.loads(Path(labels).read_text()) if labels else [0] * SIZE

    def __len__(self):
        return SIZE

    def __getitem__(self, index):
        from mmpretrain.structures import DataSample

        random.random(), np.random.rand(), torch.rand(1)  # as augmentations do
        sample = DataSample().set_gt_label(self.labels[index])
        return dict(inputs=self.images[index], data_samples=sample)


def classifier(width, mean, std, **kwargs):
    return dict(
        _scope_='mmpretrain',
        type='ImageClassifier',
        backbone=dict(
            type='ResNet',
            depth=18,
            base_channels=width,
            stem_channels=width,
            out_indices=(2, 3),
            init_cfg=None,
        ),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=CLASSES, in_channels=8 * width),
        data_preprocessor=dict(num_classes=CLASSES, mean=[mean] * 3, std=[std] * 3, **kwargs),
    )


def distillation(folder):
    size = dict(student_channels=64, teacher_channels=128, embed_dims=16, position_grid=1)
    size.update(index=1, encoder_depth=1, decoder_depth=1, num_heads=2)
    side = dict(backbone=dict(type='ModuleOutputs', source='backbone'))
    return dict(
        _scope_='mmrazor',
        type='DPKDistill',
        architecture=classifier(8, 0.0, 255.0),
        # another normalisation and channel order than the student's
        teacher=classifier(16, 120.0, 50.0, to_rgb=True),
        teacher_ckpt=str(folder / 'teacher.pth'),
        distiller=dict(
            type='DPKDistiller',
            student_recorders=side,
            teacher_recorders=side,
            distill_losses=dict(loss_dpk=dict(type='DPKLoss', transforms=dict(last=size))),
            loss_forward_mappings=dict(
                loss_dpk=dict(
                    student_feats=dict(recorder='backbone', from_student=True),
                    teacher_feats=dict(recorder='backbone', from_student=False),
                )
            ),
        ),
    )


def prepare(folder):
    """Writes a teacher, and labels that it predicts for all images but the last twenty."""
    torch.manual_seed(0)
    teacher = MODELS.build(classifier(16, 120.0, 50.0, to_rgb=True)).eval()
    images = TeacherCheckImages(None).images
    with torch.no_grad():
        x = (images.float().flip(1) - 120) / 50
        logits = torch.cat(
            [teacher.head.fc(teacher.backbone(v)[-1].mean((2, 3))) for v in x.split(25)]
        )
        # random logits have a favourite class
        teacher.head.fc.bias -= logits.mean(0)
    predicted = (logits - logits.mean(0)).argmax(1)
    assert len(predicted.unique()) > 1
    labels = predicted.clone()
    labels[WRONG_FROM:] = (labels[WRONG_FROM:] + 1) % CLASSES
    (folder / 'labels.json').write_text(json.dumps(labels.tolist()))
    torch.save(dict(state_dict=teacher.state_dict()), folder / 'teacher.pth')


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp('teacher_check')
    prepare(folder)
    return folder


def make_runner(folder, name, hook=None, num_workers=0, **kwargs):
    dataset = dict(type='TeacherCheckImages', labels=str(folder / 'labels.json'))
    loader = dict(batch_size=8, num_workers=num_workers, dataset=dataset)
    hooks = [dict(type='mmrazor.CKAMaskRatioHook')]
    if hook:
        hooks.append(dict(type='mmrazor.TeacherCheckHook', **hook))
    cfg = dict(
        model=distillation(folder),
        work_dir=str(folder / name),
        train_dataloader=dict(loader, sampler=dict(type='DefaultSampler', shuffle=True)),
        train_cfg=dict(by_epoch=True, max_epochs=1, val_interval=10),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        val_dataloader=dict(loader, sampler=dict(type='DefaultSampler', shuffle=False)),
        val_cfg=dict(),
        val_evaluator=dict(type='Accuracy', topk=(1, 2)),
        custom_hooks=hooks,
        default_scope='mmpretrain',
        randomness=dict(seed=3),
        experiment_name=f'teacher_check_{folder.name}_{name}',
    )
    return Runner.from_cfg(Config(dict(cfg, **kwargs)))


def ready(folder, name, **kwargs):
    """A runner as it is when training starts."""
    runner = make_runner(folder, name, **kwargs)
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.model.init_weights()
    return runner


def check(**kwargs):
    return HOOKS.build(dict(type='mmrazor.TeacherCheckHook', **kwargs))


def found_in(caplog, metric='accuracy/top1'):
    (said,) = [r.message for r in caplog.records if r.message.startswith(f'Teacher: {metric} is ')]
    return float(said.split(' is ')[1].split(',')[0])


@pytest.fixture
def spoken(caplog):
    """mmengine's loggers do not propagate."""

    def listen(runner):
        runner.logger.addHandler(caplog.handler)
        return runner

    caplog.set_level(logging.INFO)
    return listen


@pytest.mark.parametrize('num_workers', [0, 1])
def test_the_accuracy_is_the_known_one(place, spoken, caplog, num_workers):
    runner = spoken(ready(place, f'known{num_workers}', num_workers=num_workers))
    check(expected=81.0, metric='accuracy/top1').before_train(runner)
    assert found_in(caplog) == 80
    assert 'expected 81 (accepted from 76.95)' in caplog.text
    assert 'all 100 samples' in caplog.text


def test_a_quick_check_takes_samples_from_everywhere(place, spoken, caplog):
    runner = spoken(ready(place, 'quick'))
    # 24 of 100: every fourth image and a bit; those from the 80th on are wrong
    chosen = [i * 100 // 24 for i in range(24)]
    right = 100 * sum(i < WRONG_FROM for i in chosen) / 24
    check(expected={'accuracy/top1': 80}, max_batches=3).before_train(runner)
    assert found_in(caplog) == pytest.approx(right, rel=1e-3)
    assert '24 of the 100 samples' in caplog.text
    caplog.clear()
    check(expected={'accuracy/top1': 80}, max_batches=1000).before_train(runner)
    assert found_in(caplog) == 80


@pytest.mark.parametrize('expected', [80.1, {'accuracy/top1': 80.0, 'accuracy/top2': 100.0}])
def test_a_teacher_below_stops_the_run(place, expected):
    metric = None if isinstance(expected, dict) else 'accuracy/top1'
    hook = dict(expected=expected, metric=metric, tolerance=0.0)
    runner = make_runner(place, f'below{metric is None}', hook=hook)
    weights = {k: v.clone() for k, v in runner.model.state_dict().items() if 'distiller' in k}
    message = 'accuracy/top2 is .*, expected 100' if metric is None else 'accuracy/top1 is 80, exp'
    with pytest.raises(UsageError, match=f'teacher.pth.* is far below what is expected: {message}'):
        runner.train()
    assert runner.iter == 0
    assert weights and all(torch.equal(runner.model.state_dict()[k], v) for k, v in weights.items())


@pytest.mark.parametrize(('tolerance', 'passes'), [(0.12, True), (0.10, False)])
def test_the_tolerance_is_a_share_of_the_expected_value(place, tolerance, passes):
    runner = ready(place, f'tolerance{passes}')  # 80 of 90 is 0.111 below
    hook = check(expected=90, metric='accuracy/top1', tolerance=tolerance)
    if passes:
        hook.before_train(runner)
        return
    with pytest.raises(UsageError, match='accepted from 81'):
        hook.before_train(runner)


def test_the_run_is_not_disturbed(place):
    hook = dict(expected=80, metric='accuracy/top1')
    plain = make_runner(place, 'plain')
    plain.train()
    states = [random.random(), np.random.rand(), torch.rand(1).item()]
    checked = make_runner(place, 'checked', hook=hook)  # seeds anew
    checked.train()
    assert [random.random(), np.random.rand(), torch.rand(1).item()] == states
    for (name, a), b in zip(
        plain.model.state_dict().items(), checked.model.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name
    logs = [run.message_hub.log_scalars for run in (plain, checked)]
    keys = [{k for k in log if 'time' not in k} for log in logs]
    assert keys[0] == keys[1] and 'train/loss' in keys[0]
    for key in keys[0]:
        assert np.array_equal(logs[0][key].data[0], logs[1][key].data[0]), key
    assert [metric.results for metric in checked.val_evaluator.metrics] == [[]]


def test_student_modes_and_recorders_stay(place):
    runner = ready(place, 'modes')
    model = runner.model
    model.train()
    model.student.backbone.layer1.eval()
    before = [module.training for module in model.modules()]
    teacher_before = {k: v.clone() for k, v in model.teacher.state_dict().items()}
    model.teacher.train()  # mmrazor's own algorithm leaves it so
    check(expected=80, metric='accuracy/top1').before_train(runner)
    assert [module.training for module in model.modules()] == before
    assert all(module.training for module in model.teacher.modules())
    for name, value in model.teacher.state_dict().items():
        assert torch.equal(value, teacher_before[name]), name
    recorders = [*model.distiller.teacher_recorders.recorders.values()]
    assert all(recorder.data_buffer == [] for recorder in recorders)
    assert runner.message_hub.log_scalars == {} and runner.iter == 0


def test_what_cannot_be_checked(place):
    runner = ready(place, 'cannot')
    with pytest.raises(UsageError, match="no metric 'coco/bbox_mAP', only accuracy/top1, acc"):
        check(expected=0.4, metric='coco/bbox_mAP').before_train(runner)
    hook = check(expected=80, metric='accuracy/top1')
    runner._val_loop = None
    with pytest.raises(UsageError, match='the config has no validation'):
        hook.before_train(runner)
    runner.model = nn.Linear(1, 1)
    with pytest.raises(UsageError, match='the model, a Linear, has no teacher'):
        hook.before_train(runner)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(expected=80), 'expected is 80 and metric is None'),
        (dict(expected=dict(a=1), metric='a'), "expected is .* and metric is 'a'"),
        (dict(expected=dict()), 'expected names no metric'),
        (dict(expected=0, metric='a'), 'expected must be a number above 0, but is 0'),
        (dict(expected=dict(a='high')), "expected must be a number above 0, but is .*'high'"),
        (dict(expected=1, metric='a', tolerance=1), r'tolerance must be in \[0, 1\).* but is 1'),
        (dict(expected=1, metric='a', max_batches=0), 'max_batches must be a whole number .* is 0'),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(UsageError, match=message):
        check(**arguments)


def test_a_detector_on_a_part_of_the_set(tmp_path, monkeypatch, spoken, caplog):
    from mmengine.structures import InstanceData

    generate_shapes(tmp_path / 'shapes', num_train=1, num_val=8)
    cfg = Config.fromfile(ROOT / 'configs' / 'mini' / 'faster_rcnn_dpk.py')
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.data_root = f'{tmp_path}/shapes/'
        loader.num_workers, loader.persistent_workers = 0, False
    cfg.val_dataloader.batch_size = 1
    cfg.val_evaluator.ann_file = f'{tmp_path}/shapes/annotations/val.json'
    cfg.merge_from_dict(
        dict(work_dir=str(tmp_path), test_dataloader=None, test_cfg=None, test_evaluator=None)
    )
    cfg.experiment_name = f'teacher_check_{tmp_path.name}'
    runner = spoken(Runner.from_cfg(cfg))
    teacher = runner.model.teacher
    dataset = runner.val_dataloader.dataset
    truth = {dataset.get_data_info(i)['img_id']: dataset.get_data_info(i) for i in range(8)}

    # random weights find nothing
    with pytest.raises(UsageError, match='coco/bbox_mAP'):
        check(expected=0.4, metric='coco/bbox_mAP', max_batches=3).before_train(runner)

    run = type(teacher).val_step

    def ideal(self, batch):
        outputs = run(self, batch)
        for sample in outputs:
            boxes = truth[sample.img_id]['instances']
            sample.pred_instances = InstanceData(
                bboxes=torch.tensor([b['bbox'] for b in boxes]),
                labels=torch.tensor([b['bbox_label'] for b in boxes]),
                scores=torch.ones(len(boxes)),
            )
        return outputs

    monkeypatch.setattr(type(teacher), 'val_step', ideal)
    caplog.clear()
    # images that were not run must not count as missed
    check(expected=1.0, metric='coco/bbox_mAP', max_batches=3, tolerance=0).before_train(runner)
    assert found_in(caplog, 'coco/bbox_mAP') == 1
    assert '3 of the 8 samples' in caplog.text
    assert runner.val_evaluator.metrics[0].img_ids is None


def _one_rank(rank, folder):
    torch.set_num_threads(1)
    folder = Path(folder)
    dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        runner = ready(folder, f'rank{rank}')
        said = []
        for kwargs in (dict(), dict(max_batches=2)):
            try:
                check(expected=100, metric='accuracy/top1', **kwargs).before_train(runner)
            except UsageError as error:
                said.append(str(error).split('accuracy/top1 is ')[1].split(',')[0])
    (folder / f'{rank}.json').write_text(json.dumps(said))
    dist.destroy_process_group()


def test_two_ranks_judge_alike(tmp_path):
    prepare(tmp_path)
    run_ranks(_one_rank, tmp_path, folder=tmp_path)
    first, second = (json.loads((tmp_path / f'{r}.json').read_text()) for r in range(2))
    assert first == second
    # both ranks' batches count: 2 x 2 x 8 samples
    right = sum(i * 100 // 32 < WRONG_FROM for i in range(32))
    assert [float(value) for value in first] == pytest.approx([80, 100 * right / 32], rel=1e-3)
