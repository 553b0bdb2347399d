"""Every classification config loads, its model builds, and it says what its name says."""

from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
import torch
import torchvision
from mmengine.config import Config
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import init_default_scope
from mmrazor.registry import MODELS
from torch import nn

import dpk_mm  # noqa: F401
from dpk_mm.engine.student import student_config
from dpk_mm.models.algorithms.teacher_checkpoint import load_teacher
from dpk_mm.models.backbones import PUBLISHED_ARCHS
from dpk_mm.models.pairs import PAIRS

CONFIGS = Path(__file__).parents[1] / 'configs'
CIFAR = [pair for pair in PAIRS if pair.startswith('cifar100/')]
# file: key of the pairs table
IMAGENET = {
    **{f'imagenet/resnet{d}_resnet18': f'imagenet/resnet{d}_resnet18' for d in (34, 50, 101, 152)},
    'imagenet/resnet50_mobilenet_v1': 'imagenet/resnet50_mobilenetv1',
}
MINI = ('teacher', 'none', 'kd', 'dpk')
FILES = {
    **{f'dpk/{pair}.py': pair for pair in CIFAR},
    **{f'dpk/{file}.py': pair for file, pair in IMAGENET.items()},
    **{f'mini/fashion_cnn_{role}.py': None for role in MINI},
}
# of a pair's name, where it is not the published one already
NETWORKS = {
    'wrn40-2': 'wrn_40_2',
    'wrn40-1': 'wrn_40_1',
    'wrn16-2': 'wrn_16_2',
    'mobilenetv2': 'MobileNetV2',
    'shufflenetv1': 'ShuffleV1',
    'shufflenetv2': 'ShuffleV2',
    'resnet50': 'ResNet50',
}


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmpretrain')


def load(name):
    return Config.fromfile(CONFIGS / name)


@contextmanager
def parameters_on_meta():
    """Parameters have shapes without memory or initialisation; buffers are real."""
    register = nn.Module.register_parameter

    def register_on_meta(self, name, param):
        register(self, name, param)
        if param is not None:
            self._parameters[name] = nn.Parameter(param.to('meta'), param.requires_grad)

    with mock.patch.object(nn.Module, 'register_parameter', register_on_meta):
        yield


def build_on_meta(cfg):
    with torch.random.fork_rng(devices=[]), parameters_on_meta():
        return MODELS.build(cfg)


def batch(classes, channels, side, n=4):
    from mmpretrain.structures import DataSample

    torch.manual_seed(1)
    samples = [DataSample().set_gt_label(i % classes) for i in range(n)]
    return torch.randn(n, channels, side, side), samples


def test_the_promised_files_are_there():
    found = {
        path.relative_to(CONFIGS).as_posix()
        for pattern in ('dpk/cifar100/*.py', 'dpk/imagenet/resnet*.py', 'mini/fashion_cnn_*.py')
        for path in CONFIGS.glob(pattern)
    }
    assert found == set(FILES)
    assert len(CIFAR) == 7 + 6


@pytest.mark.parametrize('name', FILES)
def test_config_builds(name):
    cfg = load(name)
    assert cfg.default_scope == 'mmpretrain'
    assert 'data_preprocessor' not in cfg  # the models hold theirs
    Config.fromstring(cfg.pretty_text, '.py')  # the run's copy of the config can be read again
    assert student_config(cfg).model.type == 'ImageClassifier'
    model = build_on_meta(cfg.model)
    if name.endswith(('_none.py', '_teacher.py')):
        assert type(model).__name__ == 'ImageClassifier'
        return
    assert type(model).__name__ == 'DPKDistill'
    assert not any(key.startswith('teacher.') for key in model.state_dict())
    assert model.teacher_forward == 'logits'
    assert model.teacher_input.same
    for side in (model.student, model.teacher):
        assert side.head.num_classes == cfg.model.architecture.data_preprocessor.num_classes


@pytest.mark.parametrize('name', [name for name, pair in FILES.items() if pair])
def test_losses_and_sizes_are_those_of_the_text_and_the_table(name):
    cfg = load(name)
    losses = cfg.model.distiller.distill_losses
    assert set(losses) == set(cfg.model.distiller.loss_forward_mappings) == {'loss_kd', 'loss_dpk'}
    assert (losses.loss_kd.loss_weight, losses.loss_dpk.loss_weight) == (0.8, 0.2)
    assert 'criterion' not in losses.loss_dpk
    stages = list(losses.loss_dpk.transforms.items())
    assert [key for key, _ in stages] == ['second_last', 'last']
    for index, ((_, found), size) in enumerate(zip(stages, PAIRS[FILES[name]], strict=True)):
        found = dict(found)
        found.pop('position_grid')
        assert found == dict(size._asdict(), index=index)
    optimizer, epochs = cfg.optim_wrapper.optimizer, cfg.train_cfg.max_epochs
    assert (optimizer.type, optimizer.momentum) == ('SGD', 0.9)
    schedule = cfg.param_scheduler
    if 'cifar100' in name:
        assert losses.loss_kd.tau == 4
        assert (optimizer.lr, optimizer.weight_decay, epochs) == (0.05, 5e-4, 240)
        assert (schedule.milestones, schedule.gamma) == ([150, 180, 210], 0.1)
        assert cfg.train_dataloader.batch_size == 64
    else:
        assert losses.loss_kd.tau == 1
        assert (optimizer.lr, optimizer.weight_decay, epochs) == (0.1, 1e-4, 100)
        assert (schedule.step_size, schedule.gamma) == (25, 0.5)
        assert cfg.train_dataloader.batch_size == 256
    hooks = [hook.type for hook in cfg.custom_hooks]
    assert hooks == ['mmrazor.CKAMaskRatioHook', 'mmrazor.StudentCheckpointHook']
    assert cfg.custom_hooks[0].samples == 'images'


@pytest.mark.parametrize('pair', CIFAR)
def test_cifar_networks_are_those_of_the_name_and_their_features_fit(pair):
    cfg = load(f'dpk/{pair}.py').model
    transforms = cfg.distiller.distill_losses.loss_dpk.transforms
    names = pair.removeprefix('cifar100/').split('_')
    for name, side, model in zip(
        names, ('teacher', 'student'), (cfg.teacher, cfg.architecture), strict=True
    ):
        published = NETWORKS.get(name, name)
        assert dict(model.backbone) == PUBLISHED_ARCHS[published]
        if side == 'teacher':
            assert cfg.teacher_ckpt.split('/')[-2] == f'{published}_vanilla'
        backbone = ROOT_MODELS.build(dict(model.backbone)).eval()
        with torch.no_grad():
            feats = backbone(torch.randn(2, 3, 32, 32))
        assert feats[-1].shape[1] == model.head.in_channels
        for size in transforms.values():
            feat = feats[size.index]
            assert feat.shape[1] == size[f'{side}_channels']
            if side == 'teacher':
                assert tuple(size.position_grid) == tuple(feat.shape[-2:])


@pytest.mark.parametrize('name', IMAGENET)
def test_imagenet_features_fit(name):
    cfg = load(f'dpk/{name}.py').model
    depth = int(name.split('/resnet')[1].split('_')[0])
    assert cfg.teacher.backbone.depth == depth
    assert cfg.teacher_ckpt == f'torchvision://resnet{depth}'
    model = build_on_meta(cfg)
    for side, net in (('student', model.student), ('teacher', model.teacher)):
        net = net.to('meta').eval()
        feats = net.backbone(torch.empty(1, 3, 224, 224, device='meta'))
        assert feats[-1].shape[1] == net.head.fc.in_features
        for size in cfg.distiller.distill_losses.loss_dpk.transforms.values():
            feat = feats[size.index]
            assert feat.shape[1] == size[f'{side}_channels']
            assert tuple(size.position_grid) == tuple(feat.shape[-2:])


@pytest.mark.parametrize(
    ('name', 'data', 'parts'),
    [
        ('dpk/cifar100/resnet56_resnet20.py', (100, 3, 32), ('second_last', 'last')),
        ('dpk/cifar100/resnet32x4_shufflenetv1.py', (100, 3, 32), ('second_last', 'last')),
        ('mini/fashion_cnn_kd.py', (10, 1, 28), ()),
        ('mini/fashion_cnn_dpk.py', (10, 1, 28), ('second_last', 'last')),
    ],
)
def test_a_training_step(name, data, parts):
    cfg = load(name).model
    cfg.teacher_ckpt = None
    torch.manual_seed(0)
    model = MODELS.build(cfg).train()
    losses = model(*batch(*data), mode='loss')
    expected = {f'distill.loss_dpk.{part}' for part in parts}
    assert set(losses) == {'student.loss', 'distill.loss_kd'} | expected
    total, _ = model.parse_losses(losses)
    assert torch.isfinite(total)
    torch.testing.assert_close(total, sum(losses.values()))
    total.backward()
    missing = [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []


def test_a_torchvision_teacher_is_loaded_by_its_name(monkeypatch):
    cfg = load('dpk/imagenet/resnet34_resnet18.py').model
    weights = torchvision.models.resnet34(weights=None).state_dict()
    urls = []

    def load_from_http(url, **_):
        urls.append(url)
        return weights

    monkeypatch.setattr('mmengine.runner.checkpoint.load_from_http', load_from_http)
    teacher = MODELS.build(cfg.teacher)
    load_teacher(teacher, cfg.teacher_ckpt)
    assert [url.rsplit('/', 1)[1] for url in urls] == ['resnet34-b627a593.pth']
    assert torch.equal(teacher.head.fc.weight, weights['fc.weight'])
    key = 'layer3.0.downsample.0.weight'
    assert torch.equal(teacher.backbone.state_dict()[key], weights[key])


def test_mini_configs_are_one_experiment():
    teacher, none, kd, dpk = (load(f'mini/fashion_cnn_{role}.py') for role in MINI)
    for cfg in (kd, dpk):
        plain = {key: value for key, value in cfg.model.architecture.items() if key != '_scope_'}
        assert plain == none.model.to_dict()
        plain = {key: value for key, value in cfg.model.teacher.items() if key != '_scope_'}
        assert plain == teacher.model.to_dict()
        assert cfg.train_dataloader == none.train_dataloader
        assert cfg.model.teacher_ckpt == 'work_dirs/fashion_cnn_teacher/epoch_15.pth'
        assert cfg.model.teacher_command.endswith('configs/mini/fashion_cnn_teacher.py')
    losses = [cfg.model.distiller.distill_losses for cfg in (kd, dpk)]
    assert losses[0].loss_kd == losses[1].loss_kd
    for cfg in (teacher, none, kd, dpk):
        assert cfg.optim_wrapper == none.optim_wrapper
        assert cfg.train_cfg.max_epochs == cfg.param_scheduler.T_max == 15
        assert cfg.train_dataloader.dataset.download is False
        # `split` alone would give the training images
        test = cfg.test_dataloader.dataset
        assert (test.split, test.test_mode, test.download) == ('test', True, False)
        assert cfg.val_dataloader.dataset == test
    assert teacher.train_dataloader.dataset.indices > none.train_dataloader.dataset.indices
