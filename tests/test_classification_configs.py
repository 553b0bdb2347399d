"""Every classification config loads, its model builds, and it says what its name says."""

from functools import cache
from pathlib import Path

import mmpretrain
import pytest
import torch
import torchvision
import yaml
from mmengine.config import Config
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import init_default_scope
from mmrazor.registry import MODELS
from torch import nn

import dpk_mm  # noqa: F401
from dpk_mm.checkpoint.student_config import student_config
from dpk_mm.functional import tokens_to_map
from dpk_mm.models.backbones import PUBLISHED_ARCHS
from dpk_mm.models.distillers.records import expand_records
from dpk_mm.models.losses import DPKLoss
from dpk_mm.models.pairs import PAIRS, dpk_transforms
from dpk_mm.models.teacher.checkpoint import load_teacher
from dpk_mm.modules import CKAMaskRatio
from tests.helpers.meta import parameters_on_meta

pytestmark = pytest.mark.usefixtures('quick_configs')

CONFIGS = Path(__file__).parents[1] / 'configs'
CIFAR = [pair for pair in PAIRS if pair.startswith('cifar100/')]
# file: key of the pairs table
RESNET = {
    f'imagenet/resnet{d}_resnet18': f'imagenet/resnet{d}_resnet18' for d in (34, 50, 101, 152)
}
RESNET['imagenet/resnet50_mobilenet_v1'] = 'imagenet/resnet50_mobilenetv1'
EFFICIENTNET = {
    f'imagenet/efficientnet_b{i}_resnet18': f'imagenet/efficientnet-b{i}_resnet18' for i in range(5)
}
CONVNEXT = {
    f'imagenet/convnext_{size}_resnet18': f'imagenet/convnext-{size}_resnet18' for size in 'tsbl'
}
# trained by the recipe of the student's own family
ADAMW = {
    **{
        f'imagenet/convnext_{size}_convnext_e': f'imagenet/convnext-{size}_convnext-e'
        for size in 'tsbl'
    },
    'imagenet/cait_s24_deit_ti': 'imagenet/cait-s24_deit-t',
    'imagenet/cait_s24_deit_s': 'imagenet/cait-s24_deit-s',
    'imagenet/swin_s_swin_t': 'imagenet/swin-s_swin-t',
}
IMAGENET = {**RESNET, **EFFICIENTNET, **CONVNEXT, **ADAMW}
MINI = ('teacher', 'none', 'kd', 'dpk')
FILES = {
    **{f'dpk/{pair}.py': pair for pair in CIFAR},
    **{f'dpk/{file}.py': pair for file, pair in IMAGENET.items()},
    **{f'mini/fashion_{kind}_{role}.py': None for kind in ('cnn', 'vit') for role in MINI},
}
# of 1000 classes: mmpretrain's model zoo, torchvision's ResNets; MobileNetV1, DeiT, Swin-T and CaiT
# by the rounded figures of their papers (4.2, 5.7, 22, 28.3 and 46.9 million) and by our count
PARAMETERS = {
    'resnet18': 11_689_512,
    'resnet34': 21_797_672,
    'resnet50': 25_557_032,
    'resnet101': 44_549_160,
    'resnet152': 60_192_808,
    'mobilenet_v1': 4_231_976,
    'efficientnet_b0': 5_288_548,
    'efficientnet_b1': 7_794_184,
    'efficientnet_b2': 9_109_994,
    'efficientnet_b3': 12_233_232,
    'efficientnet_b4': 19_341_616,
    'convnext_t': 28_589_128,
    'convnext_s': 50_223_688,
    'convnext_b': 88_591_464,
    'convnext_l': 197_767_336,
    'convnext_e': 17_431_048,
    'cait_s24': 46_916_200,
    'deit_ti': 5_717_416,
    'deit_s': 22_050_664,
    'swin_s': 49_606_258,
    'swin_t': 28_288_354,
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
        for pattern in ('dpk/cifar100/*.py', 'dpk/imagenet/*.py', 'mini/fashion_*.py')
        for path in CONFIGS.glob(pattern)
    }
    assert found == set(FILES)
    assert len(CIFAR) == 7 + 6


def source_of(distiller, record, side):
    """The module that a record looks at."""
    return expand_records(distiller.records)[side][record]['source']


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
    for side, net in (('student', model.student), ('teacher', model.teacher)):
        classifier = net.get_submodule(source_of(cfg.model.distiller, 'logits', side))
        classes = cfg.model.architecture.data_preprocessor.num_classes
        assert classifier.out_features == classes


@pytest.mark.parametrize('name', [name for name, pair in FILES.items() if pair])
def test_losses_and_sizes_are_those_of_the_text_and_the_table(name):
    cfg = load(name)
    losses = cfg.model.distiller.distill_losses
    assert set(losses) == {'loss_kd', 'loss_dpk'}
    assert (losses.loss_kd.loss_weight, losses.loss_dpk.loss_weight) == (0.8, 0.2)
    assert 'criterion' not in losses.loss_dpk
    stages = list(losses.loss_dpk.transforms.items())
    one_stage = 'efficientnet' in name
    assert [key for key, _ in stages] == (['last'] if one_stage else ['second_last', 'last'])
    assert losses.loss_dpk.transforms == dpk_transforms(FILES[name])
    hooks = cfg.default_hooks
    assert hooks.mask_ratio == dict(type='mmrazor.CKAMaskRatioHook', samples='images')
    assert hooks.student_checkpoint.type == 'mmrazor.StudentCheckpointHook'
    optimizer, epochs = cfg.optim_wrapper.optimizer, cfg.train_cfg.max_epochs
    schedule = cfg.param_scheduler
    if name.removeprefix('dpk/').removesuffix('.py') in ADAMW:
        return
    assert (optimizer.type, optimizer.momentum) == ('SGD', 0.9)
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


def of_mmpretrain(name):
    return Config.fromfile(Path(mmpretrain.__file__).parent / '.mim' / 'configs' / name)


@pytest.mark.parametrize(
    ('name', 'official'),
    [
        ('cait_s24_deit_ti', 'deit/deit-tiny_4xb256_in1k.py'),
        ('cait_s24_deit_s', 'deit/deit-small_4xb256_in1k.py'),
        ('swin_s_swin_t', 'swin_transformer/swin-tiny_16xb64_in1k.py'),
        ('convnext_t_convnext_e', 'convnext/convnext-tiny_32xb128_in1k.py'),
    ],
)
def test_transformer_students_have_mmpretrains_recipe(name, official):
    cfg, official = load(f'dpk/imagenet/{name}.py'), of_mmpretrain(official)
    assert cfg.train_dataloader.dataset.pipeline == official.train_dataloader.dataset.pipeline
    assert cfg.test_dataloader.dataset.pipeline == official.test_dataloader.dataset.pipeline
    for key in ('type', 'weight_decay', 'betas', 'eps'):
        assert cfg.optim_wrapper.optimizer[key] == official.optim_wrapper.optimizer[key]
    images = [c.auto_scale_lr.base_batch_size for c in (cfg, official)]
    rates = [c.optim_wrapper.optimizer.lr for c in (cfg, official)]
    assert images[0] == 8 * cfg.train_dataloader.batch_size
    assert rates[0] / images[0] == pytest.approx(rates[1] / images[1])
    assert cfg.optim_wrapper.get('clip_grad') == official.optim_wrapper.get('clip_grad')
    ours = cfg.optim_wrapper.paramwise_cfg.to_dict()
    for key, value in official.optim_wrapper.paramwise_cfg.to_dict().items():
        if key != 'custom_keys':
            assert ours[key] == value
        else:  # there is no absolute position embedding in these Swins
            value.pop('.absolute_pos_embed', None)
            assert value.items() <= ours[key].items()
    assert cfg.param_scheduler == official.param_scheduler
    assert cfg.train_cfg.max_epochs == official.train_cfg.max_epochs == 300
    student, plain = cfg.model.architecture, official.model
    assert student.head.loss == plain.head.loss
    assert student.train_cfg == plain.train_cfg
    assert student.init_cfg == plain.init_cfg
    assert student.backbone.get('drop_path_rate') == plain.backbone.get('drop_path_rate')
    if 'convnext' not in name:
        backbone = plain.backbone.to_dict()
        assert student.backbone.to_dict() == backbone


def record(distiller, net, side, inputs):
    """(features, logits, output) of one side of a pair, as the losses are given them."""
    with getattr(distiller, f'{side}_recorders'):
        out = net(inputs)
    mappings = distiller.loss_forward_mappings
    feats = distiller.get_record(**mappings['loss_dpk'][f'{side}_feats'])
    logits = distiller.get_record(**mappings['loss_kd'][f'{side}_logits'])
    return feats, logits, out


@pytest.mark.parametrize('name', IMAGENET)
def test_imagenet_networks_are_those_of_the_name_and_their_features_fit(name):
    cfg = load(f'dpk/{name}.py').model
    model = build_on_meta(cfg)
    names = name.removeprefix('imagenet/')
    for side, net in (('student', model.student), ('teacher', model.teacher)):
        known = [
            key
            for key in PARAMETERS
            if (names.startswith(f'{key}_') if side == 'teacher' else names.endswith(f'_{key}'))
        ]
        assert len(known) == 1
        assert sum(p.numel() for p in net.parameters()) == PARAMETERS[known[0]]
        net.to('meta').eval()
        inputs = torch.empty(2, 3, 224, 224, device='meta')
        feats, logits, out = record(model.distiller, net, side, inputs)
        assert logits is out
        assert tuple(logits.shape) == (2, 1000)
        for size in cfg.distiller.distill_losses.loss_dpk.transforms.values():
            feat = feats[size.index]
            if feat.ndim == 3:
                feat = tokens_to_map(feat, size.get(f'{side}_extra_tokens', 0))
            assert feat.shape[1] == size[f'{side}_channels']
            # the student's is of the same side here, too
            assert tuple(size.position_grid) == tuple(feat.shape[-2:])


def logits_of_a_last_feature(net, feat):
    """The rest of the way, written once more."""
    kind = type(net.backbone).__name__ if hasattr(net, 'backbone') else 'CaiT'
    if kind == 'ConvNeXt':  # norm of the mean
        return net.head.fc(net.backbone.norm3(feat.mean((2, 3), keepdim=True)).flatten(1))
    if kind == 'SwinTransformer':  # mean of the norm
        return net.head.fc(net.backbone.norm3(feat).mean(1))
    if kind == 'VisionTransformer':  # the first token is the class token
        return net.head.layers.head(net.backbone.ln1(feat[:, 0]))
    if kind == 'CaiT':  # all are patches; the class token looks at them later
        token = net.model.cls_token.expand(len(feat), -1, -1)
        for block in net.model.blocks_token_only:
            token = block(feat, token)
        return net.model.head(net.model.norm(token)[:, 0])
    return net.head.fc(feat.mean((2, 3)))


@pytest.mark.parametrize(
    ('name', 'side', 'pixels'),
    [
        ('efficientnet_b0_resnet18', 'teacher', 64),
        ('convnext_t_convnext_e', 'student', 64),
        ('convnext_t_resnet18', 'teacher', 64),
        ('swin_s_swin_t', 'student', 224),
        ('cait_s24_deit_ti', 'student', 224),
        ('cait_s24_deit_ti', 'teacher', 224),
    ],
)
def test_the_last_feature_is_the_one_that_the_logits_come_from(name, side, pixels):
    cfg = load(f'dpk/imagenet/{name}.py').model
    torch.manual_seed(0)
    net = MODELS.build(cfg.architecture if side == 'student' else cfg.teacher).eval()
    head = net.get_submodule(source_of(cfg.distiller, 'logits', side))
    nn.init.normal_(head.weight)  # some heads start with zeros
    distiller = build_on_meta(dict(cfg.distiller, _scope_='mmrazor'))
    getattr(distiller, f'prepare_from_{side}')(net)
    with torch.no_grad():
        feats, logits, _ = record(distiller, net, side, torch.randn(2, 3, pixels, pixels))
        expected = logits_of_a_last_feature(net, feats[-1])
    scale = logits.std()
    assert scale > 1e-3
    torch.testing.assert_close(logits / scale, expected / scale, rtol=1e-4, atol=1e-4)


@cache
def zoo():
    """mmpretrain's model zoo: (config, top-1) by address of the weights."""
    configs = Path(mmpretrain.__file__).parent / '.mim' / 'configs'
    found = {}
    for family in ('efficientnet', 'convnext', 'swin_transformer'):
        for model in yaml.safe_load((configs / family / 'metafile.yml').read_text())['Models']:
            if model.get('Weights') and model.get('Results'):
                top1 = model['Results'][0]['Metrics'].get('Top 1 Accuracy')
                found[model['Weights']] = (model['Config'].removeprefix('configs/'), top1)
    return found


@pytest.mark.parametrize('name', [*EFFICIENTNET, *CONVNEXT, *ADAMW])
def test_teacher_files_are_those_of_the_teachers(name):
    cfg = load(f'dpk/{name}.py').model
    if 'cait' in name:
        import timm

        official = timm.models.get_pretrained_cfg('cait_s24_224.fb_dist_in1k')
        assert cfg.teacher_ckpt == official.url
        assert cfg.teacher.model_name == official.architecture
        assert official.input_size[1:] == (224, 224)
        mean, std = official.mean, official.std
    else:
        official = of_mmpretrain(zoo()[cfg.teacher_ckpt][0])
        assert cfg.teacher.backbone.type == official.model.backbone.type
        assert cfg.teacher.backbone.arch == official.model.backbone.arch
        assert bool(cfg.teacher.neck) == bool(official.model.get('neck'))
        assert official.data_preprocessor.to_rgb
        mean, std = ([v / 255 for v in official.data_preprocessor[k]] for k in ('mean', 'std'))
    preprocessor = cfg.teacher.data_preprocessor
    assert preprocessor.to_rgb
    assert [v / 255 for v in preprocessor.mean] == pytest.approx(mean)
    assert [v / 255 for v in preprocessor.std] == pytest.approx(std)


@pytest.mark.parametrize('published', [False, True], ids=['timm', 'official file'])
def test_timms_weights_load_into_the_cait_teacher(tmp_path, published):
    import timm

    cfg = load('dpk/imagenet/cait_s24_deit_ti.py').model
    shallow = dict(depth=2, depth_token_only=1)
    torch.manual_seed(0)
    plain = timm.create_model('cait_s24_224', **shallow).eval()
    weights = plain.state_dict()
    if published:  # the layout of S24_224.pth
        weights = dict(model={f'module.{key}': value for key, value in weights.items()})
    torch.save(weights, tmp_path / 'cait.pth')
    teacher = MODELS.build(dict(cfg.teacher, **shallow)).eval()
    load_teacher(teacher, str(tmp_path / 'cait.pth'))
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(teacher(images), plain(images))


@pytest.mark.parametrize(
    ('name', 'data', 'parts'),
    [
        ('dpk/cifar100/resnet56_resnet20.py', (100, 3, 32), ('second_last', 'last')),
        ('dpk/cifar100/resnet32x4_shufflenetv1.py', (100, 3, 32), ('second_last', 'last')),
        ('mini/fashion_cnn_kd.py', (10, 1, 28), ()),
        ('mini/fashion_cnn_dpk.py', (10, 1, 28), ('second_last', 'last')),
        ('mini/fashion_vit_kd.py', (10, 1, 28), ()),
        ('mini/fashion_vit_dpk.py', (10, 1, 28), ('second_last', 'last')),
        ('dpk/imagenet/efficientnet_b0_resnet18.py', (1000, 3, 64), ('last',)),
        ('dpk/imagenet/convnext_t_convnext_e.py', (1000, 3, 64), ('second_last', 'last')),
        ('dpk/imagenet/cait_s24_deit_ti.py', (1000, 3, 224), ('second_last', 'last')),
    ],
)
def test_a_training_step(name, data, parts):
    cfg = load(name).model
    cfg.teacher_ckpt = None
    if 'imagenet' in name:  # sizes are checked above; depth costs time
        for size in cfg.distiller.distill_losses.loss_dpk.transforms.values():
            size.update(encoder_depth=1, decoder_depth=1)
    torch.manual_seed(0)
    model = MODELS.build(cfg).train()
    for loss in model.distiller.distill_losses.values():
        if isinstance(loss, DPKLoss):
            loss.mask_ratio = CKAMaskRatio()  # as its hook does
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


@pytest.mark.parametrize('kind', ['cnn', 'vit'])
def test_mini_configs_are_one_experiment(kind):
    teacher, none, kd, dpk = (load(f'mini/fashion_{kind}_{role}.py') for role in MINI)
    for cfg in (kd, dpk):
        plain = {key: value for key, value in cfg.model.architecture.items() if key != '_scope_'}
        assert plain == none.model.to_dict()
        plain = {key: value for key, value in cfg.model.teacher.items() if key != '_scope_'}
        assert plain == teacher.model.to_dict()
        assert cfg.train_dataloader == none.train_dataloader
        assert cfg.model.teacher_ckpt == f'work_dirs/fashion_{kind}_teacher/epoch_15.pth'
        assert cfg.model.teacher_command.endswith(f'configs/mini/fashion_{kind}_teacher.py')
    losses = [cfg.model.distiller.distill_losses for cfg in (kd, dpk)]
    assert losses[0].loss_kd == losses[1].loss_kd
    for cfg in (teacher, none, kd, dpk):
        assert cfg.optim_wrapper.get('architecture', cfg.optim_wrapper) == none.optim_wrapper
        assert cfg.param_scheduler == none.param_scheduler
        schedulers = cfg.param_scheduler if kind == 'vit' else [cfg.param_scheduler]
        assert cfg.train_cfg.max_epochs == schedulers[-1].end == 15
        assert schedulers[-1].T_max == 15 - schedulers[-1].get('begin', 0)
        assert cfg.train_dataloader.dataset.download is False
        # `split` alone would give the training images
        test = cfg.test_dataloader.dataset
        assert (test.split, test.test_mode, test.download) == ('test', True, False)
        assert cfg.val_dataloader.dataset == test
    assert teacher.train_dataloader.dataset.indices > none.train_dataloader.dataset.indices


def test_mini_transformers_record_49_patches_and_a_class_token():
    cfg = load('mini/fashion_vit_dpk.py').model
    model = MODELS.build(cfg).eval()
    for side, net in (('student', model.student), ('teacher', model.teacher)):
        feats, logits, out = record(model.distiller, net, side, torch.randn(2, 1, 28, 28))
        assert logits is out
        for size in cfg.distiller.distill_losses.loss_dpk.transforms.values():
            assert size[f'{side}_extra_tokens'] == 1
            assert tuple(feats[size.index].shape) == (2, 1 + 49, size[f'{side}_channels'])


@pytest.mark.parametrize('family', ['dpk', 'mini'])
def test_every_config_is_in_its_familys_metafile_and_readme(family):
    metafile = yaml.safe_load((CONFIGS / family / 'metafile.yml').read_text())
    listed = {model['Config']: model for model in metafile['Models']}
    readme = (CONFIGS / family / 'README.md').read_text()
    for name in FILES:
        if not name.startswith(f'{family}/'):
            continue
        entry = listed[f'configs/{name}']
        assert entry['Metadata']['Epochs'] == load(name).train_cfg.max_epochs
        data = {'ImageNet': 'imagenet', 'CIFAR-100': 'cifar100', 'Fashion-MNIST': 'mini'}
        assert f'{data[entry["Metadata"]["Training Data"]]}/' in name
        if family == 'dpk':  # mini ones are named by a pattern
            assert f'({name.removeprefix("dpk/")})' in readme
    names = [model['Name'] for model in metafile['Models']]
    assert len(set(names)) == len(names)
