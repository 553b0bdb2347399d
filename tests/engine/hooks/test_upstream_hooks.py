"""Every hook that mmengine, mmdet, mmpretrain and mmrazor register, with a distillation in place of the plain model.

The hooks are found in the registries, so that a hook of the next release fails here until it has a row.
"""

import copy
import importlib
from dataclasses import dataclass, field

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.registry import HOOKS, init_default_scope
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from torch import nn

from dpk_mm.checkpoint.student import load_student, read_student
from dpk_mm.engine.hooks.upstream_check_hook import REFUSED
from dpk_mm.errors import UsageError
from tests.helpers.small_runs import Watch, build, classifier, distilled, runner, yolox

PACKAGES = ('mmengine', 'mmcv', 'mmdet', 'mmpretrain', 'mmrazor')
for name in ('mmdet.engine', 'mmpretrain.engine', 'mmrazor.engine', 'mmrazor.implementations'):
    importlib.import_module(name)


def registered(registry):
    """``scope.Name`` -> class, for what the released packages have registered."""
    found = {}
    for name, kind in registry.module_dict.items():
        if kind.__module__.split('.')[0] in PACKAGES:
            found[f'{kind.__module__.split(".")[0]}.{name}'] = (registry.scope, kind)
    for child in registry.children.values():
        found.update(registered(child))
    return found


def prepare_nothing(model):
    """The student is as it comes."""


def check_nothing(runner, model):
    """Running it to the end is all that is expected."""


@dataclass
class Row:
    """How a hook is run, and what has to be true afterwards."""

    arguments: dict = field(default_factory=dict)
    detector: bool = False
    student: dict = field(default_factory=dict)
    prepare: object = prepare_nothing
    check: object = check_nothing
    optim_wrapper: dict = field(default_factory=dict)
    refused: bool = False
    error: object = None  # what the hook itself raises, also with a plain model
    test: bool = False


def use_l1(runner, model):
    head = model.architecture.bbox_head
    assert head.use_l1 is True
    assert runner.train_dataloader.dataset.skipped == ('Mosaic', 'RandomAffine', 'MixUp')
    logged = runner.message_hub.log_scalars
    # two iterations with the L1 loss, and two without
    assert len(logged['train/student.loss_l1'].data[0]) == 2
    assert len(logged['train/student.loss_bbox'].data[0]) == 4


def new_recipe(runner, model):
    augments = model.architecture.data_preprocessor.batch_augments
    assert type(augments).__name__ == 'RandomBatchAugment'
    assert model.data_preprocessor.batch_augments is augments
    assert type(model.architecture.head.loss_module).__name__ == 'LabelSmoothLoss'


def margins(runner, model):
    # five classes, of which the first three have two images of eight, and the others one
    expected = torch.tensor([0.05, 0.05, 0.05, 0.5, 0.5])
    torch.testing.assert_close(model.architecture.head.margins.cpu(), expected)


def add_lambda(model):
    model.architecture.loss_lambda = 0.5
    model.lambdas = []
    forward = model.architecture.forward

    def watched(*args, **kwargs):
        model.lambdas.append(model.architecture.loss_lambda)
        return forward(*args, **kwargs)

    model.architecture.forward = watched


def warmed_lambda(runner, model):
    assert 'loss_lambda' not in model.__dict__
    trained = model.lambdas
    assert trained[:2] == [0.0, 0.0] and trained[-1] == 0.5


def add_set_epoch(model):
    epochs = model.architecture.epochs = []
    model.architecture.set_epoch = epochs.append


def told_epochs(runner, model):
    assert model.architecture.epochs == [0, 1]


def queue(runner, model):
    loss = model.architecture.head.loss_module
    assert loss.queue.shape == (2, 4, 16) and loss.use_queue is False
    trainable = {n: p.requires_grad for n, p in model.named_parameters()}
    assert all(trainable.values())  # the head was frozen for an iteration only


def fixed_rate(runner, model):
    head = {id(p) for p in model.architecture.head.parameters()}
    rates = {
        id(p): group['lr']
        for group in runner.optim_wrapper.optimizer.param_groups
        for p in group['params']
    }
    assert {rates[key] for key in head} == {0.7}
    # none of the distiller, which has modules of that name too
    assert {rate for key, rate in rates.items() if key not in head} == {0.01}


def warmed_up(runner, model):
    # iteration 3 of 4, and a warm-up of 8
    assert model.architecture.head.scale == pytest.approx(64 * 3 / 8)


def precise_statistics(runner, model):
    """As a plain student's: the mean of the batches' statistics with the weights at the end of the epoch."""
    from mmpretrain.engine.hooks.precise_bn_hook import update_bn_stats

    plain = copy.deepcopy(model.architecture).train()
    update_bn_stats(plain, runner.train_dataloader, 8)
    for (key, ours), theirs in zip(
        model.architecture.state_dict().items(), plain.state_dict().values(), strict=True
    ):
        if 'running' in key:
            torch.testing.assert_close(ours, theirs, msg=key)


def switched_pipeline(runner, model):
    assert [type(t).__name__ for t in runner.train_dataloader.dataset.pipeline.transforms] == [
        'PackDetInputs'
    ]


def saved(runner, model):
    assert (runner_dir(runner) / 'epoch_2.pth').is_file()


def runner_dir(runner):
    from pathlib import Path

    return Path(runner.work_dir)


def wrapped_for_tests(runner, model):
    assert type(runner.model).__name__ == 'DetTTAModel' and runner.model.module is model


LAYERS = dict(
    optimizer=dict(type='SGD', lr=0.01),
    paramwise_cfg=dict(custom_keys=dict(head=dict(fix_lr=True))),
)
SEARCH = dict(
    step=0,
    max_step=3,
    search_interval=1,
    exp_rate=0.5,
    init_alphas=0.01,
    mmin=1,
    mmax=24,
    num_branches=2,
)
RECIPE = [
    dict(
        action_epoch=2,
        batch_augments=dict(augments=[dict(type='Mixup', alpha=0.8)]),
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    )
]
ARCFACE = dict(head=dict(type='ArcFaceClsHead', num_classes=5, in_channels=64))
FEATURES = dict(feats=dict(type='ModuleOutputs', source='architecture.backbone'))

ROWS = {
    'mmengine.CheckpointHook': Row(dict(interval=1), check=saved),
    'mmengine.EarlyStoppingHook': Row(dict(monitor='acc', rule='greater')),
    'mmengine.EMAHook': Row(),  # values: test_the_average_of_the_student
    'mmengine.EmptyCacheHook': Row(dict(after_iter=True)),
    'mmengine.IterTimerHook': Row(),
    'mmengine.LoggerHook': Row(),
    'mmengine.NaiveVisualizationHook': Row(),
    'mmengine.ParamSchedulerHook': Row(),
    'mmengine.ProfilerHook': Row(dict(profile_times=1, on_trace_ready=None)),
    'mmengine.NPUProfilerHook': Row(error=ImportError),
    'mmengine.RuntimeInfoHook': Row(),
    'mmengine.DistSamplerSeedHook': Row(),
    'mmengine.SyncBuffersHook': Row(),
    'mmengine.PrepareTTAHook': Row(
        dict(tta_cfg=dict(type='DetTTAModel', tta_cfg=dict(nms=None))),
        detector=True,
        check=wrapped_for_tests,
        test=True,
    ),
    'mmcv.RFSearchHook': Row(dict(config=dict(search=SEARCH))),
    'mmdet.CheckInvalidLossHook': Row(dict(interval=1)),
    'mmdet.MeanTeacherHook': Row(refused=True),
    'mmdet.MemoryProfilerHook': Row(error=ImportError),
    'mmdet.NumClassCheckHook': Row(detector=True),
    'mmdet.PipelineSwitchHook': Row(
        dict(switch_epoch=1, switch_pipeline=[dict(type='mmdet.PackDetInputs')]),
        detector=True,
        check=switched_pipeline,
    ),
    'mmdet.SetEpochInfoHook': Row(prepare=add_set_epoch, check=told_epochs),
    'mmdet.SyncNormHook': Row(detector=True),
    'mmdet.DetVisualizationHook': Row(detector=True),
    'mmdet.TrackVisualizationHook': Row(detector=True),
    'mmdet.GroundingVisualizationHook': Row(detector=True),
    'mmdet.YOLOXModeSwitchHook': Row(dict(num_last_epochs=0), detector=True, check=use_l1),
    'mmpretrain.ClassNumCheckHook': Row(),
    'mmpretrain.DenseCLHook': Row(dict(start_iters=2), prepare=add_lambda, check=warmed_lambda),
    'mmpretrain.EMAHook': Row(),  # values: test_the_average_of_the_student
    'mmpretrain.SetAdaptiveMarginsHook': Row(student=ARCFACE, check=margins),
    'mmpretrain.PreciseBNHook': Row(dict(num_samples=8), check=precise_statistics),
    'mmpretrain.PrepareProtoBeforeValLoopHook': Row(refused=True),
    'mmpretrain.SimSiamHook': Row(
        dict(fix_pred_lr=True, lr=0.7), optim_wrapper=LAYERS, check=fixed_rate
    ),
    'mmpretrain.SwAVHook': Row(
        dict(
            batch_size=4,
            epoch_queue_starts=1,
            feat_dim=16,
            queue_length=4,
            frozen_layers_cfg={'architecture.head': 1},
        ),
        check=queue,
    ),
    'mmpretrain.SwitchRecipeHook': Row(dict(schedule=RECIPE), check=new_recipe),
    'mmpretrain.VisualizationHook': Row(),
    'mmpretrain.WarmupParamHook': Row(
        dict(param_name='scale', module_name='head', warmup_epochs=4),
        student=ARCFACE,
        check=warmed_up,
    ),
    'mmrazor.DMCPSubnetHook': Row(refused=True),
    'mmrazor.DumpSubnetHook': Row(refused=True),
    'mmrazor.EstimateResourcesHook': Row(refused=True),
    'mmrazor.RazorVisualizationHook': Row(dict(recorders=FEATURES, mappings={})),
    'mmrazor.PruningStructureHook': Row(refused=True),
    'mmrazor.ResourceInfoHook': Row(refused=True),
}

FOUND = registered(HOOKS)


def test_every_registered_hook_has_a_row():
    missing = sorted(set(FOUND) - set(ROWS))
    assert not missing, (
        f'{", ".join(missing)}: registered, but not tried with a DPKDistill. Add a row to ROWS: arguments, and a check '
        'of what the hook does to the student; or an entry in REFUSED of upstream_check_hook.py and Row(refused=True) '
        'if it cannot make sense beside a distillation.'
    )
    assert set(REFUSED) == {key.split('.')[1] for key, row in ROWS.items() if row.refused}


@pytest.mark.parametrize('key', sorted(FOUND))
def test_hook_with_a_distillation(key, tmp_path):
    if key not in ROWS:
        pytest.skip('has no row, which the test above reports')
    row = ROWS[key]
    (scope, kind), arguments = FOUND[key], copy.deepcopy(row.arguments)
    init_default_scope('mmdet' if row.detector else 'mmpretrain')
    if row.error:
        try:
            hook = kind(**arguments)
        except row.error:
            return  # not for this machine
    student, teacher = (
        (yolox(8), yolox(16)) if row.detector else (classifier(8, **row.student), classifier(16))
    )
    model = build(distilled(student, teacher))
    row.prepare(model)
    if scope != 'mmengine':
        init_default_scope(scope)
    Visualizer.get_instance(f'hook {key}')  # the Runner has one before it builds hooks
    hook = kind(**arguments)
    extra = dict(optim_wrapper=row.optim_wrapper) if row.optim_wrapper else {}
    if row.test:
        import mmdet.models.test_time_augs  # noqa: F401  registers the model
    run = runner(model, tmp_path, hook, **extra)
    if row.refused:
        before = copy.deepcopy(model.teacher.state_dict())
        with pytest.raises(UsageError, match=f'{kind.__name__} cannot be used with a DPKDistill: '):
            run.train()
        assert run.iter == 0
        for name, value in model.teacher.state_dict().items():
            assert torch.equal(value, before[name])
        return
    run.train()
    assert run.iter == 4
    if row.test:
        run.call_hook('before_run')
        run.call_hook('before_test')
    row.check(run, model)


@pytest.mark.parametrize('key', ['mmdet.NumClassCheckHook', 'mmpretrain.ClassNumCheckHook'])
def test_a_wrong_number_of_classes_of_the_student_is_found(key, tmp_path):
    student = classifier(head=dict(type='LinearClsHead', num_classes=7, in_channels=64))
    model = build(distilled(student, classifier(16)))
    with pytest.raises(AssertionError, match='7'):
        runner(model, tmp_path, FOUND[key][1]()).train()


@pytest.mark.parametrize('key', ['mmengine.EMAHook', 'mmpretrain.EMAHook'])
@pytest.mark.parametrize('update_buffers', [False, True])
def test_the_average_of_the_student(key, update_buffers, tmp_path):
    """It is what the formula gives, what is validated, and what tools/test.py finds in the checkpoint."""
    model = build(distilled(classifier(), classifier(16)))
    name, seen, validated = 'backbone.layer1.0.conv1.weight', [], []

    def weight():
        return model.architecture.state_dict()[name].clone()

    hook = FOUND[key][1](momentum=0.25, update_buffers=update_buffers)
    watch = Watch(
        after_train_iter=lambda runner, *args, **kwargs: seen.append(weight()),
        before_val_epoch=lambda runner: validated.append(weight()),
    )
    run = runner(
        model,
        tmp_path,
        hook,
        watch,
        dict(type='mmrazor.StudentCheckpointHook'),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
    )
    run.train()
    average, averages = seen[0], []
    for value in seen[1:]:
        average = 0.75 * average + 0.25 * value
        averages.append(average)
    assert not torch.allclose(average, seen[-1], atol=1e-7)
    torch.testing.assert_close(validated[0], averages[0])
    torch.testing.assert_close(validated[1], averages[2])
    torch.testing.assert_close(weight(), seen[-1])  # the training goes on from its own weights
    for file in ('epoch_2.pth', 'student_best.pth', 'student_last.pth'):
        weights, _ = read_student(tmp_path / file)
        fresh = build(classifier())
        load_student(fresh, weights, file)
        torch.testing.assert_close(fresh.state_dict()[name], averages[2])


def test_mmrazors_validation_loop_validates_the_student_alone(tmp_path):
    """Else EMAHook would exchange the weights three times, and the teacher would see the student's normalisation."""
    teacher = classifier(16)
    teacher['data_preprocessor'] = dict(num_classes=5, mean=[9.0] * 3, std=[50.0] * 3, to_rgb=True)
    model = build(distilled(classifier(), teacher))
    own, name = model.teacher.data_preprocessor, 'backbone.layer1.0.conv1.weight'
    seen, validated, found = [], [], []

    def weight():
        return model.architecture.state_dict()[name].clone()

    watch = Watch(
        before_train_iter=lambda *args, **kwargs: seen.append(weight()),
        after_train_iter=lambda *args, **kwargs: seen.append(weight()),
        before_val_epoch=lambda runner: validated.append(weight()),
        after_val_epoch=lambda runner, metrics: found.append(metrics),
    )
    loop = dict(type='mmrazor.SingleTeacherDistillValLoop')
    run = runner(model, tmp_path, EMAHook(momentum=0.25), watch, val_cfg=loop)
    run.train()
    assert found == [dict(acc=1.0), dict(acc=2.0)] and len(validated) == 2
    assert not torch.equal(validated[0], seen[3])  # the average
    assert torch.equal(seen[4], seen[3])  # the training goes on from its own weights
    assert torch.equal(weight(), seen[-1])
    assert model.teacher.data_preprocessor is own


def test_a_resumed_average_goes_on(tmp_path):
    def train(folder, epochs, **kwargs):
        model = build(distilled(classifier(), classifier(16)))
        hook = EMAHook(momentum=0.25)
        run = runner(
            model,
            tmp_path / folder,
            hook,
            train_cfg=dict(by_epoch=True, max_epochs=epochs),
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1)),
            validation=False,
            **kwargs,
        )
        run.train()
        return read_student(tmp_path / folder / f'epoch_{epochs}.pth')[0], hook

    train('first', 1)
    resumed, hook = train('second', 2, resume=True, load_from=str(tmp_path / 'first/epoch_1.pth'))
    assert hook.ema_model.steps == 4
    first, _ = read_student(tmp_path / 'first/epoch_1.pth')
    assert any(not torch.equal(resumed[name], first[name]) for name in resumed)


def test_several_optimizers_that_are_not_joint_are_refused(tmp_path):
    part = dict(optimizer=dict(type='SGD', lr=0.01))
    cfg = dict(architecture=part, distiller=part)
    model = build(distilled(classifier(), classifier(16)))
    with pytest.raises(UsageError, match='DPKOptimWrapperConstructor'):
        runner(
            model,
            tmp_path,
            optim_wrapper=dict(cfg, constructor='mmrazor.SeparateOptimWrapperConstructor'),
        ).train()
    model = build(distilled(classifier(), classifier(16)))
    hook = FOUND['mmpretrain.SimSiamHook'][1](fix_pred_lr=True, lr=0.1)
    joint = dict(cfg, constructor='mmrazor.DPKOptimWrapperConstructor')
    with pytest.raises(UsageError, match='SimSiamHook needs one optimizer'):
        runner(model, tmp_path, hook, optim_wrapper=joint).train()


def test_refused_hooks_are_the_plain_models_business(tmp_path):
    model = build(classifier())
    hook = FOUND['mmrazor.PruningStructureHook'][1]()
    run = runner(model, tmp_path, hook)
    run.train()
    assert run.iter == 4 and isinstance(run, Runner) and isinstance(run.model, nn.Module)
