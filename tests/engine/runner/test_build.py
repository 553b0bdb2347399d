import json
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
from dpk_mm.engine.runner import build
from dpk_mm.engine.runner.build import build_runner, evaluate_student, finish, init_cpu_distributed
from dpk_mm.engine.runner.prepare import prepare_test_config
from dpk_mm.errors import UsageError

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


@MODELS.register_module(name='BuildToy', force=True)
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


@METRICS.register_module(name='BuildSum', force=True)
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
            model=dict(type='BuildToy'),
            work_dir=str(tmp_path / name),
            experiment_name=f'{name}_{tmp_path.name}',
            train_dataloader=loader,
            train_cfg=dict(by_epoch=True, max_epochs=1),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
            test_dataloader=loader,
            test_cfg=dict(),
            test_evaluator=dict(type='BuildSum'),
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


def test_a_metric_that_is_a_tensor_is_written_as_numbers(tmp_path, monkeypatch):
    runner = build_runner(prepare_test_config(toy_config(tmp_path, 'tensor')))
    monkeypatch.setattr(runner, 'test', lambda: {'confusion': torch.tensor([[1, 2], [3, 4]])})
    out = tmp_path / 'm.json'
    evaluate_student(runner, str(out))
    assert json.loads(out.read_text()) == {'confusion': [[1, 2], [3, 4]]}


def test_predictions_are_written_beside_an_evaluator_of_several_sets(tmp_path):
    out = tmp_path / 'out.pkl'
    runner = build_runner(prepare_test_config(toy_config(tmp_path, 'several'), out=str(out)))
    load_student(runner.model, {'scale.weight': torch.tensor([[5.0]])}, 'toy')
    evaluator = runner.test_evaluator

    class Several(type(evaluator)):
        dataset_prefixes = ('toy',)

        def evaluate(self, size):
            first, *_ = self.metrics
            return first.evaluate(size)

    evaluator.__class__ = Several
    assert evaluate_student(runner, str(out)) == {'toy/total': 20.0}
    assert pickle.loads(out.read_bytes()) == [dict(value=5.0), dict(value=15.0)]


def test_predictions_of_detectors_are_packed_by_mmdet(tmp_path):
    from mmdet.evaluation import DumpDetResults
    from mmdet.models import BaseDetector
    from mmengine.evaluator import DumpResults

    class Detector(BaseDetector):
        loss = predict = _forward = extract_feat = None

    assert type(build._dump_metric(Detector(), 'a.pkl')) is DumpDetResults
    assert type(build._dump_metric(Toy(), 'a.pkl')) is DumpResults
