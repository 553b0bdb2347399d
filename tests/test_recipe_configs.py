"""The recipes of the authors' code: what a config of them really builds, by value."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmrazor.registry import MODELS
from PIL import Image
from torch import nn

import dpk_mm  # noqa: F401
from dpk_mm.checkpoint.student_config import student_config
from dpk_mm.modules import CKAMaskRatio
from tests.helpers.meta import parameters_on_meta

pytestmark = pytest.mark.usefixtures('quick_configs')

CONFIGS = Path(__file__).parents[1] / 'configs'
IMAGENET = 'dpk/authors/resnet34_resnet18.py'
CIFAR = 'dpk/authors/resnet56_resnet20.py'
PLAIN = {
    IMAGENET: 'dpk/imagenet/resnet34_resnet18.py',
    CIFAR: 'dpk/cifar100/resnet56_resnet20.py',
}
EPOCH = 5  # iterations


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmpretrain')


def load(name):
    return Config.fromfile(CONFIGS / name)


@pytest.mark.parametrize('name', PLAIN)
def test_a_recipe_changes_the_training_and_not_the_pair(name):
    cfg, plain = load(name), load(PLAIN[name])
    Config.fromstring(cfg.pretty_text, '.py')
    assert student_config(cfg).model.type == 'ImageClassifier'
    assert cfg.model.architecture.backbone == plain.model.architecture.backbone
    assert cfg.model.teacher == plain.model.teacher
    assert cfg.model.teacher_ckpt == plain.model.teacher_ckpt
    stages = [c.model.distiller.distill_losses.loss_dpk.transforms for c in (cfg, plain)]
    for key, stage in stages[0].items():
        # their CIFAR training weighs the second-last stage less
        weight = dict(weight=dict(second_last=0.6, last=1.0)[key]) if name == CIFAR else {}
        assert dict(stage) == dict(stages[1][key], position_embedding='sinusoidal', **weight)


@pytest.mark.parametrize(
    ('name', 'sgd'),
    [
        (IMAGENET, dict(lr=0.1, momentum=0.9, weight_decay=1e-4, nesterov=False)),
        (CIFAR, dict(lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)),
    ],
)
def test_parameter_groups(name, sgd):
    cfg = load(name)
    with torch.random.fork_rng(devices=[]), parameters_on_meta():
        model = MODELS.build(cfg.model)
    optim = build_optim_wrapper(model, cfg.optim_wrapper)
    assert list(optim.keys()) == ['architecture', 'distiller']
    student, modules = optim['architecture'].optimizer, optim['distiller'].optimizer
    assert type(student) is torch.optim.SGD
    (group,) = student.param_groups
    assert {key: group[key] for key in sgd} == sgd
    assert type(modules) is torch.optim.AdamW
    for group in modules.param_groups:
        (param,) = group['params']
        assert group['weight_decay'] == (0 if param.ndim == 1 else 1e-4)
        assert (group['lr'], group['betas']) == (1e-4, (0.9, 0.95))
    owned = [p for o in (student, modules) for g in o.param_groups for p in g['params']]
    assert {id(p) for p in owned} == {id(p) for p in model.parameters() if p.requires_grad}
    assert len(owned) == len({id(p) for p in owned})
    for part in optim.values():
        assert part._accumulative_counts == 2
        assert part.clip_grad_kwargs == (dict(max_norm=1.0) if name == CIFAR else None)


def learning_rates(cfg):
    """Of both optimizers before every iteration."""
    model = nn.Module()
    for child in ('architecture', 'distiller'):
        setattr(model, child, nn.Linear(2, 2))
    optim = build_optim_wrapper(model, cfg.optim_wrapper)
    loop = SimpleNamespace(_train_loop=None, train_dataloader=range(EPOCH))
    schedulers = {
        name: Runner._build_param_scheduler(loop, cfg.param_scheduler[name], part)
        for name, part in optim.items()
    }
    rates = {name: [] for name in schedulers}
    for part in optim.values():
        part.optimizer.step()
    for iteration in range(cfg.train_cfg.max_epochs * EPOCH):
        for name, part in optim.items():
            rates[name].append(part.optimizer.param_groups[-1]['lr'])
            for scheduler in schedulers[name]:
                if not scheduler.by_epoch or (iteration + 1) % EPOCH == 0:
                    scheduler.step()
    return rates


@pytest.mark.parametrize(('name', 'epochs'), [(IMAGENET, 200), (CIFAR, 240)])
def test_learning_rates_over_the_training(name, epochs):
    rates = learning_rates(load(name))
    assert len(rates['distiller']) == epochs * EPOCH
    for i, rate in enumerate(rates['architecture']):
        epoch = i // EPOCH
        if name == IMAGENET:
            expected = 0.1 * 0.5 ** (epoch // 25)
        else:
            expected = 0.05 * 0.1 ** sum(epoch >= milestone for milestone in (150, 180, 210))
        assert rate == pytest.approx(expected), epoch
    warm = 20 * EPOCH
    for i, rate in enumerate(rates['distiller']):
        if i < warm:
            expected = 1e-6 + (1e-4 - 1e-6) * i / (warm - 1)
        else:
            share = (i - warm) / (epochs * EPOCH - warm)
            expected = 1e-5 + (1e-4 - 1e-5) * (1 + math.cos(math.pi * share)) / 2
        assert rate == pytest.approx(expected, rel=1e-6), i
    assert rates['distiller'][0] == pytest.approx(1e-6)
    assert rates['distiller'][warm] == pytest.approx(1e-4)


@pytest.fixture
def image(tmp_path):
    rows, columns = np.mgrid[:300, :400]
    pixels = np.stack([rows * 255 // 299, columns * 255 // 399, (rows ^ columns) % 256], -1)
    path = tmp_path / 'image.png'
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def test_imagenet_training_images(image):
    cfg = load(IMAGENET)
    assert cfg.train_dataloader.dataset.pipeline == cfg.train_pipeline
    assert cfg.train_dataloader.batch_size == 256
    augment, erase = cfg.train_pipeline[3:5]
    assert (augment.magnitude_level, augment.magnitude_std, augment.num_policies) == (9, 0.5, 2)
    assert augment.policies == 'timm_increasing'
    assert (erase.erase_prob, erase.mode) == (0.25, 'rand')
    mean = cfg.model.architecture.data_preprocessor.mean
    assert list(erase.fill_color) == mean[::-1]
    assert list(augment.hparams.pad_val) == [round(v) for v in mean[::-1]]
    pipeline = Compose(cfg.train_pipeline)
    np.random.seed(0)
    outputs = [pipeline(dict(img_path=str(image), gt_label=3))['inputs'] for _ in range(8)]
    assert {(tuple(o.shape), o.dtype) for o in outputs} == {((3, 224, 224), torch.uint8)}
    assert len({o.numpy().tobytes() for o in outputs}) == 8


def test_imagenet_test_images_are_resized_bicubically_as_pillow_does(image):
    cfg = load(IMAGENET)
    assert cfg.val_dataloader.dataset.pipeline == cfg.test_pipeline
    found = Compose(cfg.test_pipeline)(dict(img_path=str(image), gt_label=0))['inputs']
    resized = Image.open(image).resize((341, 256), Image.Resampling.BICUBIC)
    left, top = round((341 - 224) / 2), (256 - 224) // 2
    expected = np.asarray(resized.crop((left, top, left + 224, top + 224)))
    # in BGR, as OpenMMLab reads images; pillow was given the channels in that order
    assert torch.equal(found, torch.from_numpy(expected[..., ::-1].copy()).permute(2, 0, 1))


def test_cifar_mixes_half_of_the_batches_and_smooths_labels():
    from mmpretrain.structures import DataSample

    cfg = load(CIFAR)
    student = ROOT_MODELS.build(cfg.model.architecture).train()
    assert [t.type for t in cfg.train_pipeline] == ['RandomCrop', 'RandomFlip', 'PackInputs']
    assert cfg.train_dataloader.batch_size == 256
    np.random.seed(0)
    torch.manual_seed(0)
    mixed = 0
    for _ in range(200):
        data = dict(
            inputs=torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8),
            data_samples=[DataSample().set_gt_label(label) for label in (1, 20, 33, 99)],
        )
        batch = student.data_preprocessor(data, training=True)
        scores = torch.stack([s.gt_score for s in batch['data_samples']])
        mixed += bool((scores.max(1).values < 1).any())
    assert 70 <= mixed <= 130
    with torch.no_grad():
        logits = student(batch['inputs'], mode='tensor')
        loss = student.head.loss_module(logits, scores)
    target = 0.9 * scores + 0.1 / 100
    torch.testing.assert_close(loss, 0.8 * F.cross_entropy(logits, target))


@pytest.mark.parametrize(('name', 'tau', 'classes'), [(IMAGENET, 1.0, 1000), (CIFAR, 4.0, 100)])
def test_weights_of_the_losses(name, tau, classes):
    cfg = load(name).model
    assert cfg.architecture.head.loss.loss_weight == 0.8
    assert cfg.distiller.distill_losses.loss_dpk.loss_weight == 0.2
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 6, classes)
    found = MODELS.build(dict(cfg.distiller.distill_losses.loss_kd, _scope_='mmrazor'))(
        student, teacher
    )
    # KLDivLoss with its mean over everything, times the number of classes, as the authors write it
    theirs = nn.KLDivLoss(reduction='mean')(
        F.log_softmax(student / tau, 1), F.softmax(teacher / tau, 1)
    )
    torch.testing.assert_close(found, 0.8 * theirs * classes * tau**2)


def test_clamps_of_the_ratio():
    hooks = {name: load(name).default_hooks.mask_ratio for name in PLAIN}
    assert {hook.type for hook in hooks.values()} == {'mmrazor.CKAMaskRatioHook'}
    limits = {name: (hook.get('min_ratio'), hook.get('max_ratio')) for name, hook in hooks.items()}
    assert limits == {IMAGENET: (0.1, 0.9), CIFAR: (0.15, None)}


def test_the_imagenet_student_is_trained_already(monkeypatch):
    cfg = load(IMAGENET).model
    weights = {
        f'resnet{d}': getattr(torchvision.models, f'resnet{d}')(weights=None).state_dict()
        for d in (18, 34)
    }
    files = []

    def load_from_http(url, **_):
        files.append(url.rsplit('/', 1)[1])
        return weights[files[-1].split('-')[0]]

    monkeypatch.setattr('mmengine.runner.checkpoint.load_from_http', load_from_http)
    del cfg.distiller.distill_losses['loss_dpk']
    model = MODELS.build(cfg)
    model.init_weights()
    assert files == ['resnet34-b627a593.pth', 'resnet18-f37072fd.pth']
    assert torch.equal(model.student.head.fc.weight, weights['resnet18']['fc.weight'])
    assert torch.equal(
        model.student.backbone.layer4[1].conv2.weight, weights['resnet18']['layer4.1.conv2.weight']
    )


def test_a_training_step_of_the_cifar_recipe():
    from mmpretrain.structures import DataSample

    cfg = load(CIFAR)
    cfg.model.teacher_ckpt = None
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    model.distiller.distill_losses.loss_dpk.mask_ratio = CKAMaskRatio()  # as its hook does
    optim = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(2):  # two batches a step
        data = dict(
            inputs=torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8),
            data_samples=[DataSample().set_gt_label(label) for label in (1, 20, 33, 99)],
        )
        logged = model.train_step(data, optim)
    assert torch.isfinite(logged['loss'])
    unchanged = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert unchanged == []
