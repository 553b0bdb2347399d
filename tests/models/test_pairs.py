import pytest
from mmengine.config import Config
from mmengine.registry import MODELS

from dpk_mm.models.backbones import PUBLISHED_ARCHS
from dpk_mm.models.pairs import PAIRS, dpk_transforms

NETWORKS = {
    'wrn40-2': 'wrn_40_2',
    'wrn40-1': 'wrn_40_1',
    'wrn16-2': 'wrn_16_2',
    'mobilenetv2': 'MobileNetV2',
    'mobilenetv1': 'MobileNetV1',
    'shufflenetv1': 'ShuffleV1',
    'shufflenetv2': 'ShuffleV2',
    'resnet50': 'ResNet50',
}
OURS = [pair for pair in PAIRS if pair.startswith('cifar100/')]


def default_channels(name):
    net = MODELS.build(dict(PUBLISHED_ARCHS[NETWORKS.get(name, name)]))
    return [net.stage_channels[i] for i in net.out_indices]


@pytest.mark.parametrize('pair', OURS)
def test_channels_are_those_of_the_stages_the_backbones_give_by_default(pair):
    teacher, student = pair.removeprefix('cifar100/').split('_')
    sizes = list(dpk_transforms(pair).values())
    assert [size['teacher_channels'] for size in sizes] == default_channels(teacher)
    assert [size['student_channels'] for size in sizes] == default_channels(student)
    assert [size['index'] for size in sizes] == [0, 1]


def test_mobilenet_v1_channels():
    sizes = dpk_transforms('imagenet/resnet50_mobilenetv1').values()
    assert [size['student_channels'] for size in sizes] == default_channels('mobilenetv1')


def test_every_pair_of_the_paper_is_there_once():
    assert len(OURS) == 7 + 6
    imagenet = [pair for pair in PAIRS if pair.startswith('imagenet/')]
    assert len(imagenet) == 4 + 1 + 5 + 4 + 4 + 2 + 1
    assert {pair.split('/')[0] for pair in PAIRS} == {
        'cifar100',
        'imagenet',
        'coco',
        'mini',
        'bccd',
    }


@pytest.mark.parametrize('pair', PAIRS)
def test_heads_divide_the_widths(pair):
    for size in PAIRS[pair].stages.values():
        assert size.embed_dims % size.num_heads == 0
        assert size.decoder_embed_dims % size.decoder_num_heads == 0
        # sinusoidal positions come in pairs
        assert size.embed_dims % 2 == size.decoder_embed_dims % 2 == 0


def count(s):
    """Parameters with sinusoidal positions, biases on q and v only, and a shared linear."""

    def blocks(width, depth):
        return depth * (12 * width**2 + 12 * width) + 2 * width

    patch = s.patch_size**2
    encoder_s = patch * s.student_channels * s.embed_dims + s.embed_dims
    encoder_t = patch * s.teacher_channels * s.embed_dims + s.embed_dims
    encoders = encoder_s + encoder_t + 2 * blocks(s.embed_dims, s.encoder_depth)
    head = (s.decoder_embed_dims + 1) * s.teacher_channels * patch
    shared = s.embed_dims * s.decoder_embed_dims
    return encoders + shared + blocks(s.decoder_embed_dims, s.decoder_depth) + head


def test_parameter_counts_known_of_the_authors_modules():
    second_last, last = PAIRS['imagenet/resnet34_resnet18'].stages.values()
    assert (count(last), count(second_last)) == (51_483_136, 12_896_512)
    second_last, last = PAIRS['imagenet/resnet50_resnet18'].stages.values()
    assert round(count(last) / 1e6, 1) == 113.9
    assert round(count(second_last) / 1e6, 1) == 77.8


def test_stages_can_be_chosen_and_keep_their_place():
    pair = 'cifar100/resnet56_resnet20'
    assert list(dpk_transforms(pair)) == ['second_last', 'last']
    assert dpk_transforms(pair, ['last']) == dict(
        last=dict(
            index=1,
            student_channels=64,
            teacher_channels=64,
            patch_size=1,
            embed_dims=128,
            encoder_depth=6,
            num_heads=8,
            decoder_embed_dims=80,
            decoder_depth=4,
            decoder_num_heads=8,
            position_grid=(8, 8),
        )
    )
    assert dpk_transforms('imagenet/efficientnet-b4_resnet18')['last']['index'] == 0


def test_unknown_names_are_refused():
    with pytest.raises(
        ValueError, match="no pair 'resnet56_resnet20' .* did you mean cifar100/resnet56_resne"
    ):
        dpk_transforms('resnet56_resnet20')
    with pytest.raises(ValueError, match="has no stage 'second_last'; choose from last"):
        dpk_transforms('imagenet/efficientnet-b0_resnet18', ['second_last'])


def test_text_config_can_use_the_table_and_be_inherited(tmp_path):
    (tmp_path / 'base.py').write_text("model = dict(loss=dict(type='DPKLoss'))\n")
    (tmp_path / 'pair.py').write_text(
        "_base_ = './base.py'\n"
        'from dpk_mm.models.pairs import dpk_transforms\n'
        "model = dict(loss=dict(transforms=dpk_transforms('cifar100/vgg13_vgg8')))\n"
    )
    (tmp_path / 'changed.py').write_text(
        "_base_ = './pair.py'\n"
        'model = dict(loss=dict(transforms=dict(last=dict(encoder_depth=1))))\n'
    )
    cfg = Config.fromfile(tmp_path / 'changed.py')
    expected = dpk_transforms('cifar100/vgg13_vgg8')
    expected['last']['encoder_depth'] = 1
    assert cfg.to_dict() == dict(model=dict(loss=dict(type='DPKLoss', transforms=expected)))
    # what the runner writes into the work dir is read back as the same config
    (tmp_path / 'dumped.py').write_text(cfg.pretty_text)
    assert Config.fromfile(tmp_path / 'dumped.py').to_dict() == cfg.to_dict()


@pytest.mark.parametrize('pair', PAIRS)
def test_small_has_one_block_each_and_nothing_else_differs(pair):
    large, small = dpk_transforms(pair), dpk_transforms(pair, size='small')
    assert list(large) == list(small)
    for name, stage in small.items():
        assert stage['encoder_depth'] == stage['decoder_depth'] == 1
        depths = {key: large[name][key] for key in ('encoder_depth', 'decoder_depth')}
        assert stage | depths == large[name]


def test_an_unknown_size_is_refused():
    with pytest.raises(ValueError, match="size is 'smal', .* large, small; did you mean small"):
        dpk_transforms('mini/fashion_cnn', size='smal')


@pytest.mark.parametrize('pair', [pair for pair, row in PAIRS.items() if row.levels])
def test_detectors_limit_the_tokens_of_every_stage(pair):
    assert {stage['max_tokens'] for stage in dpk_transforms(pair).values()} == {441}
