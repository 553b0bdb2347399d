"""Every transformation module, every prior: what the output sees, and that DDP finds all parameters used."""

import pytest
import torch
import torch.nn.functional as F

from dpk_mm.functional import TokenMask
from dpk_mm.modules import TRANSFORMS, FeatureTransform, build_transform, count_parameters

# a 4 x 6 map in 2 x 2 patches: six tokens, and each sample has a mask of its own
MASK = TokenMask(
    student=torch.tensor([[0, 2, 5], [1, 2, 3]]), teacher=torch.tensor([[1, 3, 4], [0, 4, 5]])
)
ARGUMENTS = {
    'DPKTransform': dict(encoder_depth=1, decoder_depth=1, num_heads=2, position_grid=(2, 3)),
    'MLPDecoderTransform': dict(decoder_depth=1, num_heads=2, position_grid=(2, 3)),
    'ConvEncoderDecoderTransform': dict(encoder_depth=1, decoder_depth=1),
}
PRIORS = ['teacher', 'zeros', 'mask_token', 'none']
HYBRIDS = [(kind, prior) for kind in ARGUMENTS for prior in PRIORS]


def _transform(kind, seed=0, **kwargs):
    torch.manual_seed(seed)
    cfg = dict(type=kind, student_channels=3, teacher_channels=5)
    if kind in ARGUMENTS:
        cfg.update(patch_size=2, embed_dims=8, decoder_embed_dims=12, **ARGUMENTS[kind])
    return build_transform({**cfg, **kwargs})


def _features(shape=(4, 6), seed=1):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, *shape, generator=g), torch.randn(2, 5, *shape, generator=g)


def _poked(feature, sample, token):
    """One cell of one token changed."""
    feature = feature.clone()
    feature[sample, 0, token // 3 * 2 + 1, token % 3 * 2] += 3.0
    return feature


@pytest.mark.parametrize('kind', TRANSFORMS)
@pytest.mark.parametrize('shape', [(4, 6), (5, 7), (2, 2)])
@pytest.mark.parametrize('ratio', [0.0, 0.4, 1.0])
def test_output_has_the_teachers_shape(kind, shape, ratio):
    student, teacher = _features(shape)
    out = _transform(kind)(student, teacher, ratio)
    assert out.shape == teacher.shape and out.isfinite().all()


@pytest.mark.parametrize(('kind', 'prior'), HYBRIDS)
@pytest.mark.parametrize('ratio', [0.0, 0.5, 1.0])
def test_every_parameter_gets_a_gradient(kind, prior, ratio):
    transform = _transform(kind, prior=prior)
    student, teacher = (f.requires_grad_() for f in _features())
    transform(student, teacher, ratio).square().sum().backward()
    assert teacher.grad is None
    names = [name for name, _ in transform.named_parameters()]
    assert any(name.startswith('teacher_') for name in names) == (prior == 'teacher')
    assert ('mask_token' in names) == (prior == 'mask_token')
    for name, parameter in transform.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        seen = ratio > 0 if name.startswith(('teacher_', 'mask_token')) else True
        if name.startswith('student_'):
            seen = ratio < 1 or prior == 'none'
        if name.startswith('encoder_to_decoder'):
            seen = ratio < 1 or prior in ('none', 'teacher')
        if kind.startswith('Conv') and name.startswith('decoder.') and prior == 'zeros':
            seen = ratio < 1  # convolutions of nothing but zeros, up to the head's bias
        if kind.startswith('Conv') and name == 'head.weight' and prior == 'zeros':
            seen = ratio < 1
        assert parameter.grad.any() == seen, name
    assert student.grad.any() == (ratio < 1 or prior == 'none')


@pytest.mark.parametrize('encode_first', [False, True])
@pytest.mark.parametrize(('kind', 'prior'), HYBRIDS)
def test_which_tokens_the_output_sees(kind, prior, encode_first):
    kwargs = {} if kind == 'MLPDecoderTransform' else dict(encode_first=encode_first)
    transform = _transform(kind, prior=prior, **kwargs).double()
    student, teacher = (f.double() for f in _features())
    before = transform(student, teacher, 0.5, MASK)
    for sample in range(2):
        for token in range(6):
            after = transform(_poked(student, sample, token), teacher, 0.5, MASK)
            kept = token in MASK.student[sample] or prior == 'none'
            # what is encoded first spreads from masked tokens, too
            spreads = encode_first and kind != 'MLPDecoderTransform'
            change = (after[sample] - before[sample]).abs().max()
            assert change > 1e-9 if kept or spreads else change < 1e-12, (sample, token)
            assert torch.equal(after[1 - sample], before[1 - sample])

            after = transform(student, _poked(teacher, sample, token), 0.5, MASK)
            given = prior == 'teacher' and (token in MASK.teacher[sample] or spreads)
            change = (after[sample] - before[sample]).abs().max()
            assert change > 1e-9 if given else change == 0, (sample, token)


@pytest.mark.parametrize('kind', ARGUMENTS)
def test_zeros_are_a_mask_token_of_zero(kind):
    zeros, token = _transform(kind, prior='zeros'), _transform(kind, prior='mask_token')
    missing, unexpected = token.load_state_dict(zeros.state_dict(), strict=False)
    assert (missing, unexpected) == (['mask_token'], [])
    student, teacher = _features()
    assert not torch.allclose(
        zeros(student, teacher, 0.5, MASK), token(student, teacher, 0.5, MASK)
    )
    token.mask_token.data.zero_()
    assert torch.equal(zeros(student, teacher, 0.5, MASK), token(student, teacher, 0.5, MASK))


@pytest.mark.parametrize('kind', ARGUMENTS)
def test_no_prior_is_zeros_without_a_mask(kind):
    none, zeros = _transform(kind, prior='none'), _transform(kind, prior='zeros')
    zeros.load_state_dict(none.state_dict())
    student, teacher = _features()
    expected = zeros(student, teacher, 0.0)
    assert torch.equal(none(student, teacher, 1.0), expected)
    assert torch.equal(none(student, teacher, 0.5, MASK), expected)
    assert not none.uses_mask and zeros.uses_mask


def test_conv_transform_is_a_1x1_convolution():
    transform = _transform('ConvTransform')
    student, teacher = _features()
    weight = transform.conv.weight.squeeze()
    expected = torch.einsum('nchw,dc->ndhw', student, weight) + transform.conv.bias.view(-1, 1, 1)
    found = transform(student, teacher, 0.7, MASK)
    torch.testing.assert_close(found, expected)
    assert torch.equal(found, transform(student, teacher + 1, 0.0))
    assert not transform.uses_mask
    small = student[:, :, ::2, ::2]
    resized = F.interpolate(small, (4, 6), mode='bilinear', align_corners=False)
    assert torch.equal(transform(small, teacher, 0), transform(resized, teacher, 0))


def test_mlp_decoder_by_hand():
    transform = _transform('MLPDecoderTransform', position_embedding='sinusoidal')
    student, teacher = _features()
    streams = {}
    for side, feature in (('student', student), ('teacher', teacher)):
        embed = getattr(transform, f'{side}_embed').proj
        patches = F.unfold(feature, 2, stride=2).mT
        hidden = F.gelu(patches @ embed.weight.flatten(1).T + embed.bias)
        streams[side] = getattr(transform, f'{side}_mlp')(hidden)
    tokens = torch.where(MASK.as_bool()[..., None], streams['teacher'], streams['student'])
    tokens = tokens + transform.decoder_position((2, 3), tokens.device)
    decoded = transform.head(transform.decoder(tokens))
    expected = F.fold(decoded.mT, (4, 6), 2, stride=2)
    torch.testing.assert_close(transform(student, teacher, 0.5, MASK), expected)


def test_conv_encoder_decoder_by_hand():
    transform = _transform('ConvEncoderDecoderTransform', patch_size=1, encoder_depth=2)
    student, teacher = _features((2, 3))
    given = MASK.as_bool().view(2, 1, 2, 3)
    streams = {}
    for side, feature, chosen in (('student', student, ~given), ('teacher', teacher, given)):
        x = getattr(transform, f'{side}_embed').proj(feature) * chosen
        for i in (0, 3):
            conv, norm = getattr(transform, f'{side}_encoder')[i : i + 2]
            x = F.conv2d(x, conv.weight, padding=1)
            mean, var = x.mean((1, 2, 3), keepdim=True), x.var((1, 2, 3), False, keepdim=True)
            x = (x - mean) / (var + norm.eps).sqrt()
            x = F.relu(x * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1))
        streams[side] = transform.encoder_to_decoder(x)
    x = torch.where(given, streams['teacher'], streams['student'])
    expected = transform.head(transform.decoder(x))
    torch.testing.assert_close(transform(student, teacher, 0.5, MASK), expected)


@pytest.mark.parametrize(
    ('encoder', 'decoder', 'count'),
    [
        # counts of method_facts' formula, in thousands: 10.509 M, 19.964 M, 38.876 M, 51.483 M, 57.787 M
        (1, 1, 10509),
        (2, 2, 19964),
        (4, 4, 38876),
        (6, 4, 51483),
        (6, 6, 57787),
    ],
)
def test_any_depths(encoder, decoder, count):
    with torch.device('meta'):
        transform = build_transform(
            dict(
                student_channels=512,
                teacher_channels=512,
                encoder_depth=encoder,
                decoder_depth=decoder,
                position_embedding='sinusoidal',
            )
        )
    assert type(transform).__name__ == 'DPKTransform'
    assert round(count_parameters(transform) / 1000) == pytest.approx(count, abs=1)


@pytest.mark.parametrize('kind', ARGUMENTS)
def test_a_patch_larger_than_the_feature(kind):
    student, teacher = _features((4, 3))
    with pytest.raises(ValueError, match=r"patch_size is 4, but the teacher's feature has 4 x 3 "):
        _transform(kind, patch_size=4)(student, teacher, 0.5)


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (
            dict(type='DPKTransfrom'),
            r"^type is 'DPKTransfrom'.*did you mean 'DPKTransform'\? Known: D",
        ),
        (dict(type='X'), r"^type is 'X', which is unknown; Known: DPKTransform, MLPDecoderTr"),
        (dict(patchsize=2), r"DPKTransform has no argument 'patchsize'.*mean 'patch_size'\?"),
        (dict(type='ConvTransform', prior='zeros'), r"ConvTransform has no argument 'prior'"),
        (dict(prior='teachers'), r"^prior must be one of \('teacher', 'zeros',.* is 'teachers'"),
        (dict(type='MLPDecoderTransform', num_heads=7), r'^num_heads must divide .* is 7 .*is 512'),
        (dict(decoder_num_heads=7), r'^decoder_num_heads must divide .* is 7 .*is 512'),
        (dict(decoder_embed_dims=9), r'^num_heads must divide .*\(decoder_embed_dims\) is 9'),
        (dict(encoder_depth=-1), r'^encoder_depth must be a whole number of at least 0, .* -1'),
        (dict(decoder_depth=1.5), r'^decoder_depth must be a whole number of at least 0, .* 1.5'),
        (dict(type='ConvEncoderDecoderTransform', encoder_depth=-2), r'^encoder_depth .* is -2'),
        (dict(type='ConvTransform', teacher_channels=0), r'^teacher_channels must .* is 0'),
    ],
)
def test_configs_that_do_not_fit(cfg, message):
    with pytest.raises(ValueError, match=message):
        build_transform(dict(dict(student_channels=3, teacher_channels=5), **cfg))


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match="ConvTransform needs 'teacher_channels'"):
        build_transform(dict(type='ConvTransform', student_channels=3))


def test_a_class_of_ones_own(monkeypatch):
    class Double(FeatureTransform):
        def transform(self, student_feat, teacher_feat, mask):
            return 2 * student_feat

    monkeypatch.setitem(TRANSFORMS, 'Double', Double)
    built = build_transform(dict(type='Double', student_channels=3, teacher_channels=3))
    student, _ = _features()
    assert torch.equal(built(student, student, 0.5), 2 * student)
