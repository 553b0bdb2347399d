"""The networks against what is published of them, and loading published files.

``published_networks.json`` holds, per network, facts of the published code and weights: number of
parameters, feature shapes at 32x32, the classifier's name, and the SHA-256 of the sorted lines
``name:shape`` of the 100-class state dict.
"""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from dpk_mm.models.backbones import (
    PUBLISHED_ARCHS,
    MobileNetV1,
    convert_cifar_checkpoint,
    revise_published_keys,
)

PUBLISHED = json.loads(Path(__file__).with_name('published_networks.json').read_text())


class Head(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.fc = nn.Linear(channels, classes)


class Classifier(nn.Module):
    """The modules and parameter names of mmpretrain's ImageClassifier."""

    def __init__(self, backbone, channels, classes=100):
        super().__init__()
        self.backbone = backbone
        self.head = Head(channels, classes)

    def forward(self, x):
        return self.head.fc(self.backbone(x)[-1].mean(dim=(2, 3)))


def classifier(arch, classes=100):
    backbone = MODELS.build(dict(PUBLISHED_ARCHS[arch]))
    return Classifier(backbone, backbone.embed_channels, classes).eval()


def published_weights(model, head='fc'):
    """Random weights under the names that a published file has."""
    weights = {}
    for key, value in model.state_dict().items():
        name = key.removeprefix('backbone.').replace('head.fc', head)
        weights[name] = torch.rand_like(value) if value.is_floating_point() else value.clone()
    return weights


def digest(weights):
    lines = sorted(f'{key}:{list(value.shape)}' for key, value in weights.items())
    return hashlib.sha256('\n'.join(lines).encode()).hexdigest()


@pytest.mark.parametrize('arch', PUBLISHED)
def test_parameters_and_names_are_the_published_ones(arch):
    facts = PUBLISHED[arch]
    with torch.device('meta'):
        model = classifier(arch)
    assert sum(p.numel() for p in model.parameters()) == facts['params']
    assert model.backbone.embed_channels == facts['pooled']
    weights = published_weights(model, facts['head'])
    assert len(weights) == facts['keys']
    assert digest(weights) == facts['sha256']


@pytest.mark.parametrize(
    'arch, preact',
    [(a, p) for a, facts in PUBLISHED.items() for p in (False, True) if facts['preact'] or not p],
)
def test_feature_shapes_are_the_published_ones(arch, preact):
    feats = PUBLISHED[arch]['feats']
    cfg = dict(PUBLISHED_ARCHS[arch], out_indices=tuple(range(len(feats))))
    if preact:
        cfg['preact'] = True
    with torch.device('meta'):
        outs = MODELS.build(cfg).eval()(torch.zeros(1, 3, 32, 32))
    assert [list(out.shape[1:]) for out in outs[: len(feats)]] == feats
    assert outs[-1].shape[1] == PUBLISHED[arch]['pooled']


def test_every_published_network_is_known_and_only_mobilenet_v1_besides():
    assert set(PUBLISHED_ARCHS) - set(PUBLISHED) == {'MobileNetV1'}


def wrap_plain(weights):
    return weights


def wrap_model(weights):
    return dict(epoch=240, model=weights, accuracy=torch.tensor(72.0), optimizer=dict(lr=0.0005))


def wrap_state_dict(weights):
    return dict(state_dict=weights, meta=dict(epoch=3))


def wrap_data_parallel(weights):
    return dict(net={f'module.{key}': value for key, value in weights.items()})


@pytest.mark.parametrize('wrap', [wrap_plain, wrap_model, wrap_state_dict, wrap_data_parallel])
@pytest.mark.parametrize('arch', ['resnet8x4', 'wrn_16_2', 'vgg8', 'MobileNetV2', 'ShuffleV2'])
def test_published_file_loads_strictly_and_computes_the_same(arch, wrap):
    torch.manual_seed(0)
    head = PUBLISHED[arch]['head']
    source, target = classifier(arch), classifier(arch)
    weights = published_weights(source, head)
    # Put the random weights into the source by hand, module by module.
    source.backbone.load_state_dict(
        {k: v for k, v in weights.items() if not k.startswith(f'{head}.')}
    )
    source.head.fc.weight.data.copy_(weights[f'{head}.weight'])
    source.head.fc.bias.data.copy_(weights[f'{head}.bias'])

    revised = revise_published_keys(wrap(weights), target)
    target.load_state_dict(revised['state_dict'], strict=True)
    converted = convert_cifar_checkpoint(wrap(weights), arch)

    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(target(x), source(x))
    assert set(converted) == set(target.state_dict())
    for key, value in target.state_dict().items():
        assert torch.equal(converted[key], value)


def test_meta_is_kept():
    model = classifier('resnet20')
    revised = revise_published_keys(wrap_state_dict(published_weights(model)), model)
    assert revised['meta'] == dict(epoch=3)


@pytest.mark.parametrize('arch', PUBLISHED_ARCHS)
def test_arch_is_recognised_whatever_the_number_of_classes(arch):
    head = PUBLISHED.get(arch, dict(head='fc'))['head']
    with torch.device('meta'):
        weights = published_weights(classifier(arch, classes=7), head)
    converted = convert_cifar_checkpoint(weights)
    assert converted['head.fc.weight'].shape[0] == 7
    with pytest.raises(ValueError, match=f'these are the weights of {arch!r}'):
        convert_cifar_checkpoint(weights, 'vgg13' if arch != 'vgg13' else 'vgg8')


def test_mobilenet_v1_loads_too():
    model = Classifier(MobileNetV1(), 1024, 1000)
    weights = published_weights(model)
    assert 'model.13.3.weight' in weights
    model.load_state_dict(revise_published_keys(dict(weights), model)['state_dict'], strict=True)
    assert torch.equal(model.backbone.model[13][3].weight, weights['model.13.3.weight'])


def test_file_of_another_depth_is_refused_with_its_name():
    model = classifier('resnet56')
    weights = published_weights(classifier('resnet20'))
    with pytest.raises(ValueError) as error:
        revise_published_keys(dict(model=weights), model)
    message = str(error.value)
    assert message.startswith("The checkpoint does not fit the model, a CIFARResNet ('resnet56'):")
    assert 'missing backbone.layer1.3.conv1.weight, ' in message
    # of 344 and 128 keys, 57 and 21 are counters of BatchNorm, which nobody has to have
    assert f'and {(344 - 57) - (128 - 21) - 3} more;' in message
    assert message.endswith(
        "these are the weights of 'resnet20', so name that network or give another file."
    )
    assert '\n' not in message


def test_wrong_width_is_refused_with_the_shapes():
    weights = published_weights(classifier('resnet32x4'))
    with pytest.raises(ValueError) as error:
        convert_cifar_checkpoint(weights, 'resnet32')
    message = str(error.value)
    assert "arch 'resnet32': unexpected backbone.layer1.0.downsample.0.weight" in message
    assert 'wrong shape of backbone.conv1.weight ([32, 3, 3, 3], expected [16, 3, 3, 3])' in message
    assert "these are the weights of 'resnet32x4'" in message


def test_other_classes_are_refused_with_the_number():
    weights = published_weights(classifier('resnet20', classes=10))
    with pytest.raises(
        ValueError,
        match=r'head.fc.weight \(\[10, 64\], expected \[100, 64\]\).*'
        'set num_classes=10',
    ):
        revise_published_keys(weights, classifier('resnet20'))


def test_damaged_file_fits_nothing():
    model = classifier('resnet20')
    weights = published_weights(model)
    del weights['layer2.1.bn1.weight']
    for call in (
        lambda: revise_published_keys(weights, model),
        lambda: convert_cifar_checkpoint(weights, 'resnet20'),
    ):
        with pytest.raises(ValueError, match='missing backbone.layer2.1.bn1.weight; no known'):
            call()
    with pytest.raises(ValueError, match='is none of resnet20, '):
        convert_cifar_checkpoint(weights)


@pytest.mark.parametrize(
    'checkpoint', [{}, dict(epoch=1), dict(model=dict(a=1)), {0: torch.ones(1)}]
)
def test_file_without_weights_is_refused(checkpoint):
    with pytest.raises(ValueError, match='has no weights: expected tensors'):
        convert_cifar_checkpoint(checkpoint)
    with pytest.raises(ValueError, match='has no weights'):
        revise_published_keys(checkpoint, classifier('resnet20'))


def test_unknown_arch_is_refused():
    with pytest.raises(ValueError, match="Unknown arch 'resnet18'; choose one of resnet20"):
        convert_cifar_checkpoint({}, 'resnet18')


def test_openmmlab_checkpoints_are_left_alone():
    model = classifier('resnet20')
    for prefix in ('', 'architecture.'):
        weights = {f'{prefix}{key}': value for key, value in model.state_dict().items()}
        for checkpoint in (weights, dict(state_dict=weights, meta={})):
            assert revise_published_keys(checkpoint, model) is checkpoint


def test_other_backbones_are_left_alone_unless_every_key_fits():
    """Torchvision's ResNet weights go into mmpretrain's ResNet; anything else passes untouched."""
    models = pytest.importorskip('mmpretrain.models')
    from torchvision.models import resnet18

    torch.manual_seed(0)
    source = resnet18(num_classes=5).eval()
    target = Classifier(models.ResNet(18), 512, 5).eval()
    revised = revise_published_keys(source.state_dict(), target)
    target.load_state_dict(revised['state_dict'], strict=True)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(target(x), source(x))

    deeper = Classifier(models.ResNet(34), 512, 5)
    for checkpoint in (source.state_dict(), dict(state_dict=source.state_dict()), dict(epoch=1)):
        assert revise_published_keys(checkpoint, deeper) is checkpoint
    headless = nn.Linear(2, 2)
    checkpoint = headless.state_dict()
    assert revise_published_keys(checkpoint, headless) is checkpoint


def test_conversion_does_not_copy_or_change_what_it_is_given():
    model = classifier('resnet20')
    weights = published_weights(model)
    names = list(weights)
    converted = convert_cifar_checkpoint(weights, 'resnet20')
    assert list(weights) == names
    assert converted['backbone.conv1.weight'].data_ptr() == weights['conv1.weight'].data_ptr()


def test_no_two_networks_have_the_same_weights():
    """No two networks have the same names and shapes, or recognition would be a guess."""
    digests = [facts['sha256'] for facts in PUBLISHED.values()]
    assert len(set(digests)) == len(digests)
