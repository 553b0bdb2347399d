import pytest

from dpk_mm.models.pairing.size import padded, training_size


def cfg(*pipeline, **around):
    dataset = dict(type='CocoDataset', pipeline=[dict(type='LoadImageFromFile'), *pipeline])
    return dict(train_dataloader=dict(dataset=dict(dataset, **around)))


CASES = {
    'a ratio that is kept': (
        [dict(type='Resize', scale=(1333, 800), keep_ratio=True)],
        (1333, 1333),
    ),
    'a ratio that is not': ([dict(type='Resize', scale=(320, 240), keep_ratio=False)], (240, 320)),
    'one number': ([dict(type='RandomResizedCrop', scale=224)], (224, 224)),
    'small images': ([dict(type='RandomCrop', crop_size=32, padding=4)], (32, 32)),
    'several': (
        [dict(type='RandomChoiceResize', scales=[(1333, 640), (1333, 800)], keep_ratio=True)],
        (1333, 1333),
    ),
    'large scale jittering': (
        [
            dict(type='RandomResize', scale=(1024, 1024), ratio_range=(0.1, 2.0), keep_ratio=True),
            dict(type='RandomCrop', crop_size=(1024, 1024)),
        ],
        (1024, 1024),
    ),
    'mosaic': (
        [
            dict(type='Mosaic', img_scale=(640, 640)),
            dict(type='RandomResize', scale=(1280, 1280), ratio_range=(0.5, 2.0), keep_ratio=True),
            dict(type='RandomCrop', crop_size=(640, 640)),
            dict(type='Pad', size=(640, 640)),
            dict(type='MixUp', img_scale=(320, 320)),
        ],
        (640, 640),
    ),
    'expand': (
        [
            dict(type='Expand', ratio_range=(1, 4)),
            dict(type='MinIoURandomCrop', min_crop_size=0.3),
            dict(type='Resize', scale=(300, 300), keep_ratio=False),
        ],
        (300, 300),
    ),
    'a choice': (
        [
            dict(
                type='RandomChoice',
                transforms=[
                    [dict(type='RandomChoiceResize', scales=[(480, 1333)], keep_ratio=True)],
                    [
                        dict(type='RandomChoiceResize', scales=[(400, 4200)], keep_ratio=True),
                        dict(type='RandomCrop', crop_type='absolute_range', crop_size=(384, 600)),
                    ],
                ],
            )
        ],
        (1333, 1333),
    ),
    'padding': (
        [
            dict(type='Resize', scale=(100, 70), keep_ratio=False),
            dict(type='Pad', size_divisor=32),
        ],
        (96, 128),
    ),
    'a square': (
        [
            dict(type='Resize', scale=(100, 70), keep_ratio=False),
            dict(type='Pad', pad_to_square=True),
        ],
        (100, 100),
    ),
    'nothing': ([dict(type='RandomFlip')], None),
}


@pytest.mark.parametrize('case', CASES)
def test_size_of_a_pipeline(case):
    pipeline, expected = CASES[case]
    assert training_size(cfg(*pipeline)) == expected


def test_looks_into_wrapped_data_sets():
    inner = cfg(dict(type='Resize', scale=(96, 96)))['train_dataloader']['dataset']
    repeated = dict(type='RepeatDataset', dataset=dict(type='ConcatDataset', datasets=[inner]))
    assert training_size(dict(train_dataloader=dict(dataset=repeated))) == (96, 96)


def test_an_outer_pipeline_wins():
    inner = cfg(dict(type='RandomFlip'))['train_dataloader']['dataset']
    outer = dict(
        type='MultiImageMixDataset', dataset=inner, pipeline=[dict(type='Resize', scale=(64, 64))]
    )
    assert training_size(dict(train_dataloader=dict(dataset=outer))) == (64, 64)


def test_without_training_data():
    assert training_size({}) is None


@pytest.mark.parametrize(
    ('settings', 'expected'),
    [
        (None, (1333, 800)),
        (dict(pad_size_divisor=32), (1344, 800)),
        (dict(batch_augments=[dict(type='BatchFixedSizePad', size=(1400, 1400))]), (1400, 1400)),
    ],
)
def test_padding_of_the_batch(settings, expected):
    assert padded((1333, 800), settings) == expected
