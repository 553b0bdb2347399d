import argparse
import json
import os
import pickle
import socket
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.registry import METRICS, MODELS
from torch import nn

import dpk_mm  # noqa: F401
from dpk_mm.checkpoint.student import load_student
from dpk_mm.checkpoint.student_config import unwrap
from dpk_mm.cli.options import add_common_arguments, apply_common_arguments, load_config
from dpk_mm.engine.runner import build as launch
from dpk_mm.engine.runner import prepare
from dpk_mm.engine.runner.build import build_runner, evaluate_student, finish, init_cpu_distributed
from dpk_mm.engine.runner.prepare import prepare_config, prepare_test_config
from dpk_mm.errors import UsageError


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / 'my_config.py'
    path.write_text(
        "model = dict(type='Student', architecture=dict(type='A'), teacher=dict(type='B'),\n"
        "    teacher_ckpt='old.pth')\n"
        "optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.02))\n"
        'auto_scale_lr = dict(base_batch_size=16, enable=False)\n'
        "train_pipeline = [dict(type='Load', size=3)]\n"
        'train_dataloader = dict(batch_size=1, dataset=dict(pipeline=train_pipeline))\n'
        'test_dataloader = dict(batch_size=1)\n'
        "load_from = 'weights.pth'\n"
    )
    return str(path)


@pytest.fixture
def gpu(monkeypatch):
    for module in (launch, prepare):
        monkeypatch.setattr(module, 'get_device', lambda: 'cuda')


@pytest.fixture
def cpu(monkeypatch):
    for module in (launch, prepare):
        monkeypatch.setattr(module, 'get_device', lambda: 'cpu')


# load_config


def test_common_arguments():
    parser = argparse.ArgumentParser()
    add_common_arguments(parser)
    args = parser.parse_args(
        ['--cfg-options', 'model.depth=18', 'data.scale=(1,2)']
        + ['--launcher', 'pytorch', '--local-rank', '3']
    )
    assert args.cfg_options == {'model.depth': 18, 'data.scale': (1, 2)}
    assert (args.launcher, args.local_rank, args.work_dir) == ('pytorch', 3, None)


def test_work_dir_goes_by_option_then_config_then_name(config_file):
    assert load_config(config_file).work_dir == os.path.join('./work_dirs', 'my_config')
    options = {'work_dir': 'from_config'}
    assert load_config(config_file, options).work_dir == 'from_config'
    assert load_config(config_file, options, 'from_option').work_dir == 'from_option'


def test_options_replace_settings(config_file):
    cfg = load_config(
        config_file,
        {
            'optim_wrapper.optimizer.lr': 0.5,
            'train_dataloader.dataset.pipeline.0.size': 7,
            'randomness.seed': 1,
            'find_unused_parameters': True,
            'model.new_setting': 2,
        },
    )
    assert cfg.optim_wrapper.optimizer == dict(type='SGD', lr=0.5)
    assert cfg.train_dataloader.dataset.pipeline == [dict(type='Load', size=7)]
    assert cfg.randomness.seed == 1 and cfg.find_unused_parameters is True
    assert cfg.model.new_setting == 2


@pytest.mark.parametrize(
    'key, meant',
    [
        ('modle.type', 'model.type'),
        ('optim_wrapper.optimiser.lr', 'optim_wrapper.optimizer.lr'),
        ('loadfrom', 'load_from'),
        ('train_dataloder.batch_size', 'train_dataloader.batch_size'),
    ],
)
def test_typing_errors_in_options_are_named(config_file, key, meant):
    with pytest.raises(UsageError, match=f'--cfg-options {key}: .* did you mean {meant}'):
        load_config(config_file, {key: 1})


def test_traceback_is_asked_for_through_the_environment(monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '2')
    monkeypatch.delenv('DPK_TRACEBACK', raising=False)
    parser = argparse.ArgumentParser()
    add_common_arguments(parser)
    apply_common_arguments(parser.parse_args(['--local-rank', '3']))
    assert os.environ['LOCAL_RANK'] == '2' and 'DPK_TRACEBACK' not in os.environ
    monkeypatch.setenv('DPK_TRACEBACK', '')  # so that it is taken back afterwards
    apply_common_arguments(parser.parse_args(['--traceback']))
    assert os.environ['DPK_TRACEBACK'] == '1'


def test_missing_config_is_one_sentence(tmp_path):
    with pytest.raises(UsageError, match='there is no config .*nothing.py'):
        load_config(str(tmp_path / 'nothing.py'))


# prepare_config


def test_nothing_asked_changes_nothing_but_the_launcher(config_file):
    cfg, before = load_config(config_file), load_config(config_file)
    prepare_config(cfg)
    assert cfg.to_dict() == {**before.to_dict(), 'launcher': 'none'}


def test_resume(config_file, tmp_path):
    cfg = prepare_config(load_config(config_file), resume='auto')
    assert (cfg.resume, cfg.load_from) == (True, None)

    checkpoint = tmp_path / 'epoch_1.pth'
    with pytest.raises(UsageError, match=r'--resume: there is no checkpoint .*epoch_1\.pth'):
        prepare_config(load_config(config_file), resume=str(checkpoint))
    checkpoint.touch()
    cfg = prepare_config(load_config(config_file), resume=str(checkpoint))
    assert (cfg.resume, cfg.load_from) == (True, str(checkpoint))


def test_amp(config_file, gpu):
    cfg = prepare_config(load_config(config_file), amp=True)
    assert cfg.optim_wrapper == dict(
        type='AmpOptimWrapper', loss_scale='dynamic', optimizer=dict(type='SGD', lr=0.02)
    )
    cfg = load_config(config_file, {'optim_wrapper.loss_scale': 512})
    assert prepare_config(cfg, amp=True).optim_wrapper.loss_scale == 512
    cfg = load_config(config_file, {'optim_wrapper.type': 'ApexOptimWrapper'})
    with pytest.raises(UsageError, match='has ApexOptimWrapper'):
        prepare_config(cfg, amp=True)


@pytest.mark.parametrize(
    'amp, expected',
    [
        ('fp16', dict(dtype='float16', loss_scale='dynamic')),
        ('bf16', dict(dtype='bfloat16', loss_scale=dict(enabled=False))),
    ],
)
def test_amp_by_name(config_file, gpu, amp, expected):
    cfg = prepare_config(load_config(config_file), amp=amp)
    optimizer = dict(type='SGD', lr=0.02)
    assert cfg.optim_wrapper == dict(type='AmpOptimWrapper', optimizer=optimizer, **expected)


def test_amp_of_another_name(config_file, gpu):
    with pytest.raises(UsageError, match='--amp fp8: fp16 or bf16 was expected'):
        prepare_config(load_config(config_file), amp='fp8')


def separate_wrappers(config_file):
    cfg = load_config(config_file)
    cfg.optim_wrapper = dict(
        constructor='mmrazor.SeparateOptimWrapperConstructor',
        architecture=dict(optimizer=dict(type='SGD', lr=0.1), clip_grad=dict(max_norm=1)),
        distiller=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.001)),
    )
    return cfg


def test_amp_of_several_optimizers(config_file, gpu):
    cfg = prepare_config(separate_wrappers(config_file), amp=True)
    amp = dict(type='AmpOptimWrapper', loss_scale='dynamic')
    assert cfg.optim_wrapper == dict(
        constructor='mmrazor.SeparateOptimWrapperConstructor',
        architecture=dict(optimizer=dict(type='SGD', lr=0.1), clip_grad=dict(max_norm=1), **amp),
        distiller=dict(optimizer=dict(type='AdamW', lr=0.001), **amp),
    )
    cfg = separate_wrappers(config_file)
    cfg.optim_wrapper.distiller.type = 'ApexOptimWrapper'
    with pytest.raises(UsageError, match=r'optim_wrapper\.distiller\.type .* has ApexOptimWrapper'):
        prepare_config(cfg, amp=True)


def test_amp_of_several_optimizers_that_share_settings(config_file, gpu):
    cfg = separate_wrappers(config_file)
    cfg.optim_wrapper.loss_scale = 512.0
    prepare_config(cfg, amp=True)
    assert {cfg.optim_wrapper[part].loss_scale for part in ('architecture', 'distiller')} == {512.0}
    cfg = separate_wrappers(config_file)
    cfg.optim_wrapper.type = 'ApexOptimWrapper'
    with pytest.raises(UsageError, match=r'optim_wrapper\.architecture\.type .* ApexOptimWrapper'):
        prepare_config(cfg, amp=True)


@pytest.mark.parametrize('amp', [True, 'fp16'])
def test_fp16_without_gpu_is_refused(config_file, cpu, amp):
    with pytest.raises(UsageError, match='--amp needs a GPU.*--amp bf16'):
        prepare_config(load_config(config_file), amp=amp)


def test_bf16_without_gpu(config_file, cpu):
    cfg = separate_wrappers(config_file)
    cfg.optim_wrapper.update(dtype='float16', loss_scale=2.0)
    prepare_config(cfg, amp='bf16')
    assert 'dtype' not in cfg.optim_wrapper and 'loss_scale' not in cfg.optim_wrapper
    assert cfg.optim_wrapper.architecture == dict(
        type='mmrazor.CPUAmpOptimWrapper',
        optimizer=dict(type='SGD', lr=0.1),
        clip_grad=dict(max_norm=1),
    )
    assert cfg.optim_wrapper.distiller.type == 'mmrazor.CPUAmpOptimWrapper'


def test_auto_scale_lr(config_file):
    cfg = prepare_config(load_config(config_file), auto_scale_lr=True)
    assert cfg.auto_scale_lr == dict(base_batch_size=16, enable=True)
    cfg.pop('auto_scale_lr')
    with pytest.raises(UsageError, match='base_batch_size'):
        prepare_config(cfg, auto_scale_lr=True)


def test_teacher_ckpt(config_file, tmp_path):
    teacher = tmp_path / 'teacher.pth'
    with pytest.raises(UsageError, match=r'there is no file .*teacher\.pth'):
        prepare_config(load_config(config_file), teacher_ckpt=str(teacher))
    teacher.touch()
    cfg = prepare_config(load_config(config_file), teacher_ckpt=str(teacher))
    assert cfg.model.teacher_ckpt == str(teacher)
    cfg = prepare_config(load_config(config_file), teacher_ckpt='https://host/teacher.pth')
    assert cfg.model.teacher_ckpt == 'https://host/teacher.pth'

    del cfg.model['teacher']
    with pytest.raises(UsageError, match=r'my_config\.py has no model\.teacher'):
        prepare_config(cfg, teacher_ckpt=str(teacher))


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmdet'])
def test_mmpretrains_dataloaders_are_completed(config_file, scope):
    cfg = load_config(config_file, {'default_scope': scope})
    cfg.train_dataloader = dict(num_workers=2, pin_memory='as given')
    prepare_config(cfg)
    if scope == 'mmdet':
        assert cfg.train_dataloader == dict(num_workers=2, pin_memory='as given')
        assert cfg.test_dataloader == dict(batch_size=1)
    else:
        assert cfg.train_dataloader == dict(
            num_workers=2,
            pin_memory='as given',
            persistent_workers=True,
            collate_fn=dict(type='default_collate'),
        )
        # torch refuses persistent workers where there are none
        assert cfg.test_dataloader.persistent_workers is False


# prepare_test_config


def test_test_config_is_the_students_and_loads_nothing_by_itself(config_file):
    cfg = prepare_test_config(load_config(config_file, {'resume': True}), launcher='pytorch')
    assert cfg.model == dict(type='A', _scope_='mmengine')
    assert (cfg.load_from, cfg.resume, cfg.launcher) == (None, False, 'pytorch')


@pytest.mark.parametrize(
    'kind, expected',
    [
        (
            'mmdet.DetVisualizationHook',
            dict(draw=True, show=True, wait_time=5, test_out_dir='pictures'),
        ),
        (
            'VisualizationHook',
            dict(enable=True, interval=1, show=True, wait_time=5, out_dir='pictures'),
        ),
    ],
)
def test_visualization_of_both_packages(config_file, kind, expected):
    cfg = load_config(config_file)
    cfg.default_hooks = dict(visualization=dict(type=kind))
    cfg = prepare_test_config(cfg, show=True, show_dir='pictures', wait_time=5)
    assert cfg.default_hooks.visualization == dict(type=kind, **expected)


def test_test_config_errors(config_file):
    cfg = load_config(config_file)
    with pytest.raises(UsageError, match='--show and --show-dir need a hook'):
        prepare_test_config(cfg, show_dir='x')
    with pytest.raises(UsageError, match=r'--out a\.txt: a name ending in'):
        prepare_test_config(cfg, out='a.txt')
    cfg.pop('test_dataloader')
    with pytest.raises(UsageError, match='no test_dataloader'):
        prepare_test_config(cfg)


# init_cpu_distributed


@pytest.fixture
def one_rank(monkeypatch, cpu):
    """The environment that torch.distributed.run gives to a single process."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    for name, value in dict(
        RANK=0, LOCAL_RANK=0, WORLD_SIZE=1, MASTER_ADDR='127.0.0.1', MASTER_PORT=port
    ).items():
        monkeypatch.setenv(name, str(value))
    yield
    finish()
    assert not dist.is_initialized()


def test_one_process_needs_no_group(cpu):
    cfg = Config(dict(launcher='none'))
    init_cpu_distributed(cfg)
    assert not dist.is_initialized() and 'model_wrapper_cfg' not in cfg


def test_with_gpus_the_runner_makes_the_group(gpu, monkeypatch):
    monkeypatch.setenv('RANK', '0')
    cfg = Config(dict(launcher='pytorch'))
    init_cpu_distributed(cfg)
    assert not dist.is_initialized() and 'model_wrapper_cfg' not in cfg


def test_launcher_without_its_environment(cpu, monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    with pytest.raises(UsageError, match='RANK is not set.*dist_train.sh'):
        init_cpu_distributed(Config(dict(launcher='pytorch')))
    with pytest.raises(UsageError, match='--launcher slurm needs GPUs'):
        init_cpu_distributed(Config(dict(launcher='slurm')))


def test_wrapper_takes_over_what_the_config_says(one_rank, monkeypatch):
    calls = []
    monkeypatch.setattr(dist, 'init_process_group', lambda *args, **kw: calls.append((args, kw)))
    cfg = Config(
        dict(
            launcher='pytorch',
            find_unused_parameters=True,
            env_cfg=dict(dist_cfg=dict(backend='nccl', timeout=7)),
        )
    )
    init_cpu_distributed(cfg)
    assert calls == [(('gloo',), dict(timeout=timedelta(seconds=7)))]
    assert cfg.model_wrapper_cfg == dict(
        type='mmengine.MMDistributedDataParallel',
        device_ids=None,
        broadcast_buffers=False,
        find_unused_parameters=True,
    )

    cfg = Config(dict(launcher='pytorch', model_wrapper_cfg=dict(broadcast_buffers=True)))
    init_cpu_distributed(cfg)
    assert cfg.model_wrapper_cfg == dict(
        type='mmengine.MMDistributedDataParallel', device_ids=None, broadcast_buffers=True
    )


# the whole way, with a toy


@MODELS.register_module(name='LaunchToy', force=True)
class Toy(BaseModel):
    """Predicts `weight * input`; learns `weight` from targets."""

    def __init__(self, data_preprocessor=None) -> None:
        super().__init__(data_preprocessor)
        self.scale = nn.Linear(1, 1, bias=False)

    def forward(self, inputs, target, mode='tensor'):
        inputs, target = (
            torch.as_tensor(x, dtype=torch.float32)[:, None] for x in (inputs, target)
        )
        if mode == 'loss':
            return dict(loss=(self.scale(inputs) - target).square().mean())
        return [dict(value=float(value)) for value in self.scale(inputs)]


@METRICS.register_module(name='LaunchSum', force=True)
class Sum(BaseMetric):
    default_prefix = 'toy'

    def process(self, data_batch, data_samples):
        self.results.extend(sample['value'] for sample in data_samples)

    def compute_metrics(self, results):
        return dict(total=sum(results))


DATA = [dict(inputs=1.0, target=2.0), dict(inputs=3.0, target=6.0)]


def toy_config(tmp_path, name, **extra) -> Config:
    loader = dict(
        dataset=DATA,
        batch_size=1,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    return Config(
        dict(
            model=dict(type='LaunchToy'),
            work_dir=str(tmp_path / name),
            experiment_name=f'{name}_{tmp_path.name}',
            train_dataloader=loader,
            train_cfg=dict(by_epoch=True, max_epochs=1),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
            test_dataloader=loader,
            test_cfg=dict(),
            test_evaluator=dict(type='LaunchSum'),
            default_hooks=dict(checkpoint=None),
            log_level='ERROR',
            **extra,
        )
    )


def test_runner_trains_in_a_gloo_group(tmp_path, one_rank):
    cfg = toy_config(tmp_path, 'gloo', launcher='pytorch')
    init_cpu_distributed(cfg)
    runner = build_runner(cfg)
    assert dist.get_backend() == 'gloo'
    assert type(runner.model) is MMDistributedDataParallel and runner.model.device_ids is None

    nn.init.constant_(unwrap(runner.model).scale.weight, 1.0)
    unwrap(runner.model).init_weights = lambda: None
    runner.train()
    # two steps of SGD on (w x - y)^2 by hand: w <- w - 0.01 * 2 x (w x - y)
    expected = 1.0 - 0.01 * 2 * 1 * (1.0 * 1 - 2)
    expected -= 0.01 * 2 * 3 * (expected * 3 - 6)
    assert unwrap(runner.model).scale.weight.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize('suffix', ['.pkl', '.json'])
def test_evaluation_writes_what_was_asked_for(tmp_path, suffix):
    out = str(tmp_path / 'results' / f'out{suffix}')
    cfg = prepare_test_config(toy_config(tmp_path, f'evaluate_{suffix[1:]}'), out=out)
    runner = build_runner(cfg)
    load_student(runner.model, {'scale.weight': torch.tensor([[5.0]])}, 'toy')

    assert evaluate_student(runner, out) == {'toy/total': 20.0}
    if suffix == '.pkl':
        with open(out, 'rb') as file:
            assert pickle.load(file) == [dict(value=5.0), dict(value=15.0)]
    else:
        with open(out) as file:
            assert json.load(file) == {'toy/total': 20.0}


def test_predictions_of_detectors_are_packed_by_mmdet(tmp_path):
    from mmdet.evaluation import DumpDetResults
    from mmdet.models import BaseDetector
    from mmengine.evaluator import DumpResults

    class Detector(BaseDetector):
        loss = predict = _forward = extract_feat = None

    assert type(launch._dump_metric(Detector(), 'a.pkl')) is DumpDetResults
    assert type(launch._dump_metric(Toy(), 'a.pkl')) is DumpResults
