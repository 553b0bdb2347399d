import math
from collections import OrderedDict

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import EMAHook, Hook
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

import dpk_mm  # noqa: F401
from dpk_mm.checkpoint.student import read_student
from dpk_mm.engine.hooks import StudentCheckpointHook
from dpk_mm.errors import UsageError


class Student(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.backbone.weight, 1.0)

    def forward(self, inputs, mode='tensor'):
        return self.backbone(torch.as_tensor(inputs, dtype=torch.float32)[:, None])


class Algorithm(BaseModel):
    """Each training step adds 1 to the student's weight: the loss falls by 1 per unit."""

    def __init__(self) -> None:
        super().__init__()
        self.architecture = Student()
        self.distiller = nn.Linear(1, 1)

    def forward(self, inputs, mode='tensor'):
        if mode == 'loss':
            return dict(loss=-self.architecture.backbone.weight.sum())
        return [dict(value=float(value)) for value in self.architecture(inputs)]


class ListDataset(list):
    metainfo = dict(classes=('cat', 'dog'))


class Scripted(BaseMetric):
    """Gives the metrics that the test wrote down, one per validation."""

    def __init__(self, values, name='mAP') -> None:
        super().__init__(prefix='coco')
        self.values, self.name = list(values), name

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        value = self.values.pop(0)
        return OrderedDict({} if value is None else {self.name: value, 'other': 1.0})


def make_runner(work_dir, values, *hooks, name='mAP', epochs=None, config=None, **extra) -> Runner:
    loader = dict(
        dataset=ListDataset([dict(inputs=1.0)] * 2),
        batch_size=1,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    make_runner.count = getattr(make_runner, 'count', 0) + 1
    runner = Runner(
        model=extra.pop('model', None) or Algorithm(),
        work_dir=str(work_dir),
        train_dataloader=loader,
        val_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=epochs or len(values), val_interval=1),
        val_cfg=dict(),
        val_evaluator=extra.pop('val_evaluator', None) or [Scripted(values, name)],
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1.0)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
        custom_hooks=list(hooks),
        experiment_name=f'hook_{make_runner.count}',
        log_level='ERROR',
        cfg=config or Config(dict()),
        **extra,
    )
    return runner


def weight(path) -> float:
    state, _ = read_student(path)
    assert list(state) == ['backbone.weight']
    return state['backbone.weight'].item()


def test_best_and_last_student_by_value(tmp_path):
    make_runner(tmp_path, [0.1, 0.5, 0.5, math.nan, 0.4], StudentCheckpointHook()).train()

    # two steps an epoch: the weight is 1 + 2 * epoch
    state, meta = read_student(tmp_path / 'student_best.pth')
    assert state['backbone.weight'].item() == 5.0
    assert meta == dict(
        epoch=2, iter=4, metric='coco/mAP', value=0.5, dataset_meta=dict(classes=('cat', 'dog'))
    )
    state, meta = read_student(tmp_path / 'student_last.pth')
    assert state['backbone.weight'].item() == 11.0
    assert meta == dict(epoch=5, iter=10, dataset_meta=dict(classes=('cat', 'dog')))
    Student().load_state_dict(state, strict=True)


@pytest.mark.parametrize(
    'arguments, name, values, best',
    [
        (dict(), 'loss', [0.3, 0.1, 0.2], 5.0),  # smaller is better for a loss
        (dict(save_best='coco/loss', rule='greater'), 'loss', [0.3, 0.1, 0.2], 3.0),
        (dict(save_best='coco/other', rule='less'), 'mAP', [0.1, 0.2, 0.3], 3.0),
        (dict(), 'mAP', [None, 0.2, 0.1], 5.0),  # nothing detected in the first epoch
        (dict(save_best='coco/mAP'), 'mAP', [-1.0, -1.0], 3.0),
    ],
)
def test_metric_and_rule(tmp_path, arguments, name, values, best):
    make_runner(tmp_path, values, StudentCheckpointHook(**arguments), name=name).train()
    assert weight(tmp_path / 'student_best.pth') == best


def test_metric_that_is_not_there_keeps_the_training_alive(tmp_path):
    runner = make_runner(tmp_path, [0.1], StudentCheckpointHook(save_best='coco/mAP_typo'))
    warnings = []
    runner.logger.warning = warnings.append
    runner.train()
    assert any('has no coco/mAP_typo, only coco/mAP, coco/other' in text for text in warnings)
    assert not (tmp_path / 'student_best.pth').exists()
    assert weight(tmp_path / 'student_last.pth') == 3.0


def test_metrics_by_class_are_passed_over(tmp_path):
    class ByClass(Scripted):
        def compute_metrics(self, results):
            return OrderedDict(by_class=[0.1, 0.9], **super().compute_metrics(results))

    metrics = [ByClass([0.2, 0.3, 0.1])]
    make_runner(tmp_path, [0, 0, 0], StudentCheckpointHook(), val_evaluator=metrics).train()
    assert read_student(tmp_path / 'student_best.pth')[1]['metric'] == 'coco/mAP'
    assert weight(tmp_path / 'student_best.pth') == 5.0


def test_metrics_by_class_alone_choose_nothing_and_are_said(tmp_path):
    runner = make_runner(tmp_path, [[0.1, 0.2]], StudentCheckpointHook())
    runner.val_evaluator.metrics[0].compute_metrics = lambda results: dict(by_class=[0.1, 0.2])
    warnings = []
    runner.logger.warning = warnings.append
    runner.train()
    assert any('has no single number, only coco/by_class' in text for text in warnings)
    assert not (tmp_path / 'student_best.pth').exists()


def test_rule_that_cannot_be_told(tmp_path):
    with pytest.raises(ValueError, match='coco/other'):
        StudentCheckpointHook(save_best='coco/other')
    with pytest.raises(UsageError, match="rule must be 'greater' or 'less', but is 'more'"):
        StudentCheckpointHook(rule='more')


@pytest.mark.parametrize('name', ['bbox_AP', 'PQ', 'Recall@1'])
def test_without_a_metric_whose_rule_is_known_the_training_goes_on(tmp_path, name):
    runner = make_runner(tmp_path, [0.1, 0.2], StudentCheckpointHook(), name=name)
    warnings = []
    runner.logger.warning = warnings.append
    runner.train()
    (said,) = [text for text in warnings if 'student_best.pth' in text]
    assert f'coco/{name}, coco/other; set save_best and rule' in said
    assert not (tmp_path / 'student_best.pth').exists()
    assert weight(tmp_path / 'student_last.pth') == 5.0


def test_the_first_metric_whose_rule_is_known_is_taken(tmp_path):
    class Both(Scripted):
        def compute_metrics(self, results):
            return OrderedDict(AP50=1.0, **super().compute_metrics(results))

    metrics = [Both([0.2, 0.3, 0.1])]
    make_runner(tmp_path, [0, 0, 0], StudentCheckpointHook(), val_evaluator=metrics).train()
    assert read_student(tmp_path / 'student_best.pth')[1]['metric'] == 'coco/mAP'
    assert weight(tmp_path / 'student_best.pth') == 5.0


def test_a_given_rule_holds_for_any_first_metric(tmp_path):
    hook = StudentCheckpointHook(rule='greater')
    make_runner(tmp_path, [0.2, 0.3, 0.1], hook, name='PQ').train()
    assert read_student(tmp_path / 'student_best.pth')[1]['metric'] == 'coco/PQ'
    # resumed without the rule, the value cannot be compared any more
    make_runner(tmp_path, [0.9], StudentCheckpointHook(), name='PQ', epochs=4, resume=True).train()
    assert read_student(tmp_path / 'student_best.pth')[1]['value'] == 0.3


@pytest.mark.parametrize('ema_priority', [49, 'NORMAL'])
def test_averaged_student_is_the_one_written(tmp_path, ema_priority):
    """The best file has what was evaluated; the last file what mmengine's own checkpoint has."""
    seen = []

    class Spy(Hook):
        priority = 'VERY_HIGH'

        def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            seen.append(runner.model.architecture.backbone.weight.item())

    ema = EMAHook(momentum=0.25)
    ema.priority = ema_priority
    runner = make_runner(tmp_path, [0.1, 0.9, 0.2], ema, Spy(), StudentCheckpointHook())
    runner.train()

    average = weights = 1.0  # mmengine's average begins with a copy at the first step
    averages = []
    for step in range(6):
        weights += 1.0
        average = weights if step == 0 else 0.75 * average + 0.25 * weights
        averages.append(average)
    assert seen[::2] == pytest.approx([averages[1], averages[3], averages[5]])
    assert weight(tmp_path / 'student_best.pth') == pytest.approx(averages[3])
    checkpoint = torch.load(tmp_path / 'epoch_3.pth', weights_only=True)
    last = checkpoint['state_dict']['architecture.backbone.weight'].item()
    assert (
        weight(tmp_path / 'student_last.pth') == pytest.approx(last) == pytest.approx(averages[5])
    )
    # and the training went on with its own weights
    assert runner.model.architecture.backbone.weight.item() == 7.0


def test_best_value_survives_resume(tmp_path):
    make_runner(tmp_path, [0.6, 0.3], StudentCheckpointHook(), epochs=2).train()
    assert torch.load(tmp_path / 'epoch_2.pth')['student_checkpoint_hook'] == dict(
        metric='coco/mAP', value=0.6
    )
    (tmp_path / 'student_best.pth').unlink()  # the value alone has to be enough

    make_runner(tmp_path, [0.5], StudentCheckpointHook(), epochs=3, resume=True).train()
    assert not (tmp_path / 'student_best.pth').exists()
    assert weight(tmp_path / 'student_last.pth') == 7.0

    make_runner(tmp_path, [0.7], StudentCheckpointHook(), epochs=4, resume=True).train()
    assert weight(tmp_path / 'student_best.pth') == 9.0


def test_validation_after_the_last_checkpoint_counts_on_resume(tmp_path):
    """epoch_1.pth is written before validation 1, so only the best file knows its value."""
    make_runner(tmp_path, [0.6], StudentCheckpointHook()).train()
    assert 'student_checkpoint_hook' not in torch.load(tmp_path / 'epoch_1.pth')

    make_runner(tmp_path, [0.5], StudentCheckpointHook(), epochs=2, resume=True).train()
    assert weight(tmp_path / 'student_best.pth') == 3.0
    assert read_student(tmp_path / 'student_best.pth')[1]['value'] == 0.6


def test_going_back_forgets_a_best_from_later(tmp_path):
    make_runner(tmp_path, [0.1, 0.9], StudentCheckpointHook()).train()
    make_runner(
        tmp_path,
        [0.5],
        StudentCheckpointHook(),
        epochs=2,
        resume=True,
        load_from=str(tmp_path / 'epoch_1.pth'),
    ).train()
    assert read_student(tmp_path / 'student_best.pth')[1]['value'] == 0.5


def test_fresh_run_in_an_old_folder_starts_anew(tmp_path):
    make_runner(tmp_path, [0.9], StudentCheckpointHook()).train()
    make_runner(
        tmp_path, [0.2], StudentCheckpointHook(), load_from=str(tmp_path / 'epoch_1.pth')
    ).train()
    state, meta = read_student(tmp_path / 'student_best.pth')
    assert (meta['value'], state['backbone.weight'].item()) == (0.2, 5.0)


def test_config_of_the_student_goes_into_the_files(tmp_path):
    config = Config(
        dict(
            model=dict(architecture=dict(type='Student', _scope_='mmdet'), teacher=dict(type='T')),
            custom_imports=dict(imports=['dpk_mm']),
        )
    )
    runner = make_runner(tmp_path, [0.1], StudentCheckpointHook(), config=config)
    runner.train()
    for name in ('student_best.pth', 'student_last.pth', 'epoch_1.pth'):
        text = read_student(tmp_path / name)[1]['cfg']
        assert Config.fromstring(text, '.py').to_dict() == dict(
            model=dict(type='Student', _scope_='mmdet')
        )


def test_validation_outside_training_writes_nothing(tmp_path):
    runner = make_runner(tmp_path, [0.1, 0.9], StudentCheckpointHook(), epochs=1)
    runner.train()
    runner.val()
    assert read_student(tmp_path / 'student_best.pth')[1]['value'] == 0.1


class FakeParallel(MMDistributedDataParallel):
    """The wrapper's interface without a process group."""

    def __init__(self, module) -> None:
        nn.Module.__init__(self)
        self.module = module

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)

    def train_step(self, data, optim_wrapper):
        return self.module.train_step(data, optim_wrapper)


def test_wrapped_model(tmp_path):
    runner = make_runner(
        tmp_path, [0.1, 0.0], StudentCheckpointHook(), model=FakeParallel(Algorithm())
    )
    runner.train()
    assert weight(tmp_path / 'student_best.pth') == 3.0
    assert weight(tmp_path / 'student_last.pth') == 5.0


def test_only_the_main_process_writes(tmp_path, monkeypatch):
    runner = make_runner(tmp_path, [0.1], StudentCheckpointHook())
    module = 'dpk_mm.engine.hooks.student_checkpoint_hook.is_main_process'
    monkeypatch.setattr(module, lambda: False)
    runner.train()
    assert not list(tmp_path.glob('student_*.pth'))


def test_plain_model_is_refused_in_one_sentence(tmp_path):
    class Plain(Algorithm):
        def __init__(self) -> None:
            super().__init__()
            self.student = self.architecture
            del self.architecture

    runner = make_runner(tmp_path, [0.1], StudentCheckpointHook(), model=Plain())
    with pytest.raises(UsageError, match='but the model is a plain Plain: .* DPKDistill'):
        runner.train()
    assert runner.iter == 0


def test_registered_with_mmrazor():
    hook = HOOKS.build(dict(type='mmrazor.StudentCheckpointHook', save_best='coco/bbox_mAP'))
    assert (type(hook), hook.metric) == (StudentCheckpointHook, 'coco/bbox_mAP')


class Spoil(Hook):
    """Makes a weight NaN in the second epoch, as a NaN gradient does."""

    priority = 'HIGH'

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.epoch == 1:
            runner.model.architecture.backbone.weight.data.fill_(math.nan)


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    runner = make_runner(tmp_path, [1.0, 2.0, 3.0], Spoil(), StudentCheckpointHook())
    with pytest.raises(ValueError, match=r'architecture.backbone.weight is not finite.*--resume'):
        runner.train()
    assert (tmp_path / 'epoch_1.pth').is_file()
    assert not (tmp_path / 'epoch_2.pth').exists()
    assert (tmp_path / 'last_checkpoint').read_text().endswith('epoch_1.pth')


def test_a_mask_of_infinity_is_no_damage(tmp_path):
    runner = make_runner(tmp_path, [1.0, 2.0, 3.0], StudentCheckpointHook())
    network = runner.model.architecture.backbone
    network.register_buffer('mask', torch.full((2, 2), -math.inf))
    runner.train()
    assert (tmp_path / 'epoch_3.pth').is_file()
    network.mask[0, 0] = math.nan
    with pytest.raises(UsageError, match=r'architecture.backbone.mask is not finite'):
        runner.save_checkpoint(str(tmp_path), 'spoilt.pth')
