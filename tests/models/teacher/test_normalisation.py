"""What a teacher sees, against its own preprocessor on the same pixels."""

import pytest
import torch
from mmengine.model import BaseDataPreprocessor, ImgDataPreprocessor
from mmengine.registry import init_default_scope
from mmrazor.registry import MODELS
from torch import nn

import dpk_mm  # noqa: F401
from dpk_mm.errors import UsageError
from dpk_mm.models.teacher.normalisation import (
    TeacherInput,
    give_preprocessor,
    read_normalisation,
)


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('mmrazor')


def cls(**kwargs):
    return MODELS.build(dict(type='mmpretrain.ClsDataPreprocessor', **kwargs))


def det(**kwargs):
    return MODELS.build(dict(type='mmdet.DetDataPreprocessor', **kwargs))


RGB = dict(mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4])
OTHER = dict(mean=[10.0, 20.0, 30.0], std=[2.0, 4.0, 5.0])
GREY = dict(mean=[72.9], std=[90.0])


def pixels(channels=3, sizes=((8, 6), (4, 5))):
    draw = torch.Generator().manual_seed(0)
    return [
        torch.randint(0, 255, (channels, *size), generator=draw, dtype=torch.uint8)
        for size in sizes
    ]


def samples(images):
    from mmdet.structures import DetDataSample

    return [DetDataSample(metainfo=dict(img_shape=image.shape[-2:])) for image in images]


@pytest.mark.parametrize(
    ('student', 'teacher', 'channels'),
    [
        (lambda: det(**RGB, bgr_to_rgb=True), lambda: det(**OTHER), 3),
        (lambda: det(**RGB, bgr_to_rgb=True), lambda: det(**OTHER, bgr_to_rgb=True), 3),
        (lambda: det(**RGB), lambda: det(**RGB, bgr_to_rgb=True), 3),
        # BGR to RGB and RGB to BGR are the same exchange
        (lambda: det(**RGB, bgr_to_rgb=True), lambda: det(**RGB, rgb_to_bgr=True), 3),
        (lambda: det(**RGB), lambda: cls(**OTHER, to_rgb=True), 3),
        (lambda: cls(**RGB, to_rgb=True), lambda: cls(**RGB), 3),
        (lambda: det(**RGB, bgr_to_rgb=True), lambda: det(), 3),  # raw pixels, as YOLOX has it
        (lambda: det(), lambda: det(**RGB, bgr_to_rgb=True), 3),
        (lambda: cls(**GREY), lambda: cls(mean=[0.0], std=[255.0]), 1),
        (lambda: cls(**GREY, to_rgb=True), lambda: cls(mean=[0.0], std=[255.0]), 1),
        (lambda: cls(**GREY), lambda: cls(), 1),
        (lambda: cls(), lambda: cls(**GREY), 1),
        (lambda: cls(mean=[9.0], std=[3.0]), lambda: cls(**RGB), 3),
        # nothing differs but the padding
        (lambda: det(**RGB, pad_value=0), lambda: det(**RGB, pad_value=114), 3),
        (lambda: det(**RGB, pad_value=7), lambda: det(**OTHER, bgr_to_rgb=True, pad_value=3), 3),
        (lambda: ImgDataPreprocessor(**RGB), lambda: ImgDataPreprocessor(**OTHER, pad_value=2), 3),
    ],
)
def test_it_is_what_the_teachers_own_preprocessor_gives(student, teacher, channels):
    images = pixels(channels)
    own, given = (
        side(dict(inputs=images, data_samples=samples(images)), False)['inputs']
        for side in (student(), teacher())
    )
    before = own.clone()
    found = TeacherInput(student(), teacher())(own, samples(images))
    torch.testing.assert_close(found, given, atol=1e-3, rtol=1e-5)
    assert torch.equal(own, before)  # the student still reads it


@pytest.mark.parametrize('given', [RGB, {}])
def test_pixels_beyond_an_img_shape_of_another_size_stay(given):
    """torchvision's transforms of mmpretrain leave the ``img_shape`` of the file, here one smaller than the crop."""
    images = pixels(sizes=((8, 6), (8, 6)))
    for image in images:
        image[:, 7, 5] = 0  # without a normalisation, black is the value of the padding, too
    said = samples([image[:, :4, :3] for image in images])
    student, teacher = cls(**given, to_rgb=True, pad_size_divisor=8), cls(**OTHER, pad_value=7)
    own = student(dict(inputs=images), False)['inputs']
    found = TeacherInput(student, teacher)(own, said)
    expected = teacher(dict(inputs=images), False)['inputs']
    torch.testing.assert_close(found[..., :6], expected, atol=1e-3, rtol=1e-5)
    assert (found[..., 6:] == 7).all()  # and the padding is padding


def test_names_of_other_libraries():
    """mmseg's preprocessor, which is not installed here: ``channel_conversion`` and ``pad_val``."""
    seg = nn.Module()
    seg._enable_normalize, seg.channel_conversion, seg.pad_val = True, True, 5
    seg.mean, seg.std = (torch.tensor(OTHER[k]).view(3, 1, 1) for k in ('mean', 'std'))
    mean, std, swaps, pad_value = read_normalisation(seg)
    assert (mean.tolist(), std.tolist(), swaps, pad_value) == (OTHER['mean'], OTHER['std'], True, 5)


def test_another_number_of_channels():
    with pytest.raises(UsageError, match='images have 1 channels, but .* mean of 3 values'):
        TeacherInput(cls(**GREY), cls(**RGB))(torch.zeros(2, 1, 4, 4))


def test_a_preprocessor_of_another_kind_is_left_alone(monkeypatch):
    said = []
    monkeypatch.setattr(
        'dpk_mm.models.teacher.normalisation.print_log', lambda text, *_, **__: said.append(text)
    )

    class Own(BaseDataPreprocessor):
        pass

    x = torch.randn(2, 3, 4, 4)
    assert TeacherInput(cls(**RGB), Own())(x) is x
    assert said == [
        'The normalisation of a Own is not known: the teacher sees the images of the student as they are.'
    ]


def network(**kwargs):
    return dict(
        _scope_='mmpretrain',
        type='ImageClassifier',
        backbone=dict(type='LeNet5'),
        head=None,
        **kwargs,
    )


@pytest.mark.parametrize(
    ('kwargs', 'as_built', 'expected'),
    [
        (dict(), False, 'student'),
        (dict(data_preprocessor=None), False, 'student'),
        (dict(), True, 'student'),
        (dict(data_preprocessor=dict(OTHER)), False, 'own'),
        (dict(data_preprocessor=dict(OTHER)), True, 'own'),
        (dict(data_preprocessor=dict(pad_value=0)), False, 'own'),  # raw pixels, by name
    ],
)
def test_a_teacher_without_a_preprocessor_has_the_students(kwargs, as_built, expected, monkeypatch):
    said = []
    monkeypatch.setattr(
        'dpk_mm.models.teacher.normalisation.print_log', lambda text, *_, **__: said.append(text)
    )
    student = cls(**RGB, to_rgb=True)
    cfg = network(**kwargs)
    teacher = MODELS.build(cfg.copy())
    own = teacher.data_preprocessor
    give_preprocessor(teacher, student, teacher if as_built else cfg)
    assert teacher.data_preprocessor is (student if expected == 'student' else own)
    assert len(said) == (expected == 'student')
    x = torch.randn(2, 3, 4, 4)
    if expected == 'student':
        assert TeacherInput(student, teacher.data_preprocessor)(x) is x
