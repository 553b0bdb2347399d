import pytest
import torch
import torch.nn.functional as F

from dpk_mm.functional import TokenMask
from dpk_mm.modules.dpk_transform import DPKTransform
from dpk_mm.modules.parameters import count_parameters
from dpk_mm.modules.tokens import OrthogonalPatchEmbed

POSITIONS = ['learnable', 'sinusoidal']
# a 4 x 6 map in 2 x 2 patches: six tokens, and each sample has a mask of its own
MASK = TokenMask(
    student=torch.tensor([[0, 2, 5], [1, 2, 3]]), teacher=torch.tensor([[1, 3, 4], [0, 4, 5]])
)


def _transform(student=3, teacher=5, seed=0, **kwargs):
    torch.manual_seed(seed)
    cfg = dict(patch_size=2, embed_dims=8, encoder_depth=1, decoder_depth=1, num_heads=2)
    cfg.update(decoder_embed_dims=12, position_grid=(2, 3))
    return DPKTransform(student, teacher, **{**cfg, **kwargs})


def _features(student=3, teacher=5, shape=(4, 6), n=2, seed=1):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, student, *shape, generator=g), torch.randn(
        n, teacher, *shape, generator=g
    )


def _poked(feature, sample, token):
    """One cell of one token changed (2 x 2 patches, three of them in a row)."""
    feature = feature.clone()
    feature[sample, 0, token // 3 * 2 + 1, token % 3 * 2] += 3.0
    return feature


@pytest.mark.parametrize(
    ('channels', 'dims', 'count'), [(512, 512, 51483136), (256, 256, 12896512)]
)
def test_parameter_counts(channels, dims, count):
    with torch.device('meta'):
        transform = DPKTransform(
            channels,
            channels,
            patch_size=1,
            embed_dims=dims,
            decoder_embed_dims=dims,
            encoder_depth=6,
            decoder_depth=4,
            num_heads=8,
            position_embedding='sinusoidal',
        )
    assert count_parameters(transform) == count


def test_frozen_parameters_are_not_counted():
    transform = _transform()
    everything = count_parameters(transform)
    transform.head.requires_grad_(False)
    assert count_parameters(transform) == everything - (12 + 1) * 5 * 4


@pytest.mark.parametrize('position', POSITIONS)
@pytest.mark.parametrize(
    ('k', 'shape'), [(1, (1, 1)), (1, (3, 5)), (2, (2, 2)), (2, (5, 7)), (4, (5, 7)), (4, (8, 4))]
)
@pytest.mark.parametrize('ratio', [0.0, 0.5, 1.0])
def test_output_has_the_teachers_shape(k, shape, ratio, position):
    transform = _transform(patch_size=k, position_embedding=position)
    student, teacher = _features(shape=shape)
    out = transform(student, teacher, ratio)
    assert out.shape == teacher.shape
    assert out.isfinite().all()


def test_num_tokens():
    assert _transform(patch_size=4).num_tokens((84, 84)) == 441
    assert _transform(patch_size=2).num_tokens((42, 42)) == 441
    assert _transform(patch_size=2).num_tokens((5, 7)) == 12


@pytest.mark.parametrize('encode_first', [False, True])
def test_the_ends_of_the_ratio_see_one_side_only(encode_first):
    transform = _transform(encode_first=encode_first)
    (student, teacher), (student2, teacher2) = _features(), _features(seed=2)
    assert torch.equal(transform(student, teacher, 0.0), transform(student, teacher2, 0.0))
    assert not torch.allclose(transform(student, teacher, 0.0), transform(student2, teacher, 0.0))
    assert torch.equal(transform(student, teacher, 1.0), transform(student2, teacher, 1.0))
    assert not torch.allclose(transform(student, teacher, 1.0), transform(student, teacher2, 1.0))


@pytest.mark.parametrize('side', ['student', 'teacher'])
def test_output_depends_on_the_kept_student_and_the_given_teacher_tokens_only(side):
    transform = _transform().double()
    student, teacher = (f.double() for f in _features())
    before = transform(student, teacher, 0.5, MASK)
    for sample in range(2):
        for token in range(6):
            if side == 'student':
                after = transform(_poked(student, sample, token), teacher, 0.5, MASK)
            else:
                after = transform(student, _poked(teacher, sample, token), 0.5, MASK)
            seen = token in getattr(MASK, side)[sample]
            other = 1 - sample
            torch.testing.assert_close(after[other], before[other])
            change = (after[sample] - before[sample]).abs().max()
            assert change > 1e-6 if seen else change < 1e-12, (sample, token)


def test_encode_first_sees_masked_tokens():
    first, then = _transform(encode_first=True), _transform()
    student, teacher = _features()
    a, b = first(student, teacher, 0.5, MASK), then(student, teacher, 0.5, MASK)
    assert a.shape == b.shape == teacher.shape
    assert not torch.allclose(a, b)
    masked = int(MASK.teacher[0, 0])
    c = first(_poked(student, 0, masked), teacher, 0.5, MASK)
    assert not torch.allclose(a[0], c[0])


@pytest.mark.parametrize('ratio', [0.0, 1.0])
def test_encode_first_makes_no_difference_where_one_side_gives_all(ratio):
    student, teacher = _features()
    expected = _transform()(student, teacher, ratio)
    found = _transform(encode_first=True)(student, teacher, ratio)
    torch.testing.assert_close(found, expected)


def test_a_given_mask_beats_the_ratio():
    transform = _transform()
    student, teacher = _features()
    a, b = transform(student, teacher, 0.0, MASK), transform(student, teacher, 1.0, MASK)
    assert torch.equal(a, b)


def test_the_mask_is_drawn_anew():
    transform = _transform()
    student, teacher = _features()
    torch.manual_seed(5)
    a, b = transform(student, teacher, 0.5), transform(student, teacher, 0.5)
    torch.manual_seed(5)
    assert torch.equal(a, transform(student, teacher, 0.5))
    assert not torch.allclose(a, b)


def test_gradient_reaches_the_kept_student_cells_and_never_the_teacher():
    transform = _transform()
    student, teacher = (f.requires_grad_() for f in _features())
    transform(student, teacher, 0.5, MASK).square().sum().backward()
    assert teacher.grad is None
    for sample in range(2):
        for token in range(6):
            y, x = token // 3 * 2, token % 3 * 2
            patch = student.grad[sample, :, y : y + 2, x : x + 2]
            kept = token in MASK.student[sample]
            assert patch.abs().sum() > 1e-6 if kept else not patch.any()


@pytest.mark.parametrize('position', POSITIONS)
@pytest.mark.parametrize('encode_first', [False, True])
@pytest.mark.parametrize('ratio', [0.0, 0.5, 1.0])
def test_every_parameter_gets_a_gradient(ratio, encode_first, position):
    transform = _transform(encode_first=encode_first, position_embedding=position)
    student, teacher = _features()
    transform(student, teacher, ratio).square().sum().backward()
    for name, parameter in transform.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        blind = {0.0: 'teacher_', 1.0: 'student_'}.get(ratio)
        if blind and name.startswith(blind):
            assert not parameter.grad.any(), name
        else:
            assert parameter.grad.any(), name


def test_samples_of_a_batch_do_not_mix():
    transform = _transform().eval()
    student, teacher = _features()
    both = transform(student, teacher, 0.5, MASK)
    for i in range(2):
        mask = TokenMask(MASK.student[i : i + 1], MASK.teacher[i : i + 1])
        one = transform(student[i : i + 1], teacher[i : i + 1], 0.5, mask)
        assert one.shape == (1, 5, 4, 6)
        torch.testing.assert_close(one[0], both[i], atol=1e-5, rtol=1e-5)


def test_a_student_of_another_size_is_resized_to_the_teacher():
    transform = _transform()
    _, teacher = _features()
    student, _ = _features(shape=(2, 3))
    resized = F.interpolate(student, (4, 6), mode='bilinear', align_corners=False)
    torch.testing.assert_close(
        transform(student, teacher, 0.5, MASK), transform(resized, teacher, 0.5, MASK)
    )


def test_linear_layers_start_with_biases_of_zero():
    transform = _transform(teacher=4)
    biases = [m.bias for m in transform.modules() if isinstance(m, torch.nn.Linear)]
    assert sum(b is None for b in biases) == 3 + 1  # the keys, and the projection to the decoder
    assert not any(b.any() for b in biases if b is not None)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(patch_size=0), 'patch_size must be a whole number of at least 1, but is 0'),
        (dict(embed_dims=8.0), 'embed_dims must be a whole number of at least 1, but is 8.0'),
        (dict(student=0), 'student_channels must be a whole number'),
        (dict(num_heads=3, decoder_num_heads=2), 'num_heads is 3 and the width .* is 8'),
        (dict(decoder_num_heads=5), 'num_heads is 5 and the width .* is 12'),
        (dict(position_embedding='none'), "position_embedding must be one of .*'none'"),
    ],
)
def test_arguments_that_do_not_fit(kwargs, message):
    with pytest.raises(ValueError, match=message):
        _transform(**kwargs)


def test_features_that_do_not_fit():
    transform = _transform()
    student, teacher = _features()
    with pytest.raises(ValueError, match=r'student feature must be \[N, 3, H, W\].*\(2, 5, 4, 6\)'):
        transform(teacher, teacher, 0.5)
    with pytest.raises(ValueError, match=r'teacher feature must be \[N, 5, H, W\].*\(2, 3, 4, 6\)'):
        transform(student, student, 0.5)
    with pytest.raises(ValueError, match='teacher feature must be'):
        transform(student, teacher.flatten(2), 0.5)
    with pytest.raises(ValueError, match=r'mask_ratio must be in \[0, 1\], but is 1.5'):
        transform(student, teacher, 1.5)


def test_a_tied_embedding_is_the_teacher_s():
    transform = _transform(student=5, student_embed='tied')
    student, teacher = _features(student=5)
    assert not hasattr(transform, 'student_embed')
    # what one of the own kind does with the same weights
    own = _transform(student=5)
    own.load_state_dict(
        {
            **transform.state_dict(),
            **{
                f'student_embed.{name}': value
                for name, value in transform.teacher_embed.state_dict().items()
            },
        }
    )
    assert torch.equal(transform(student, teacher, 0.5, MASK), own(student, teacher, 0.5, MASK))


def test_an_orthogonal_embedding_keeps_lengths_and_angles():
    transform = _transform(student=2, student_embed='orthogonal')  # 2 * 2 * 2 inputs, 8 dims
    student, teacher = _features(student=2)
    with torch.no_grad():  # whatever is learned
        transform.student_embed.proj.parametrizations.weight.original.normal_()
    tokens = transform.student_embed(student)
    patches = F.unfold(student, 2, stride=2).mT
    assert torch.allclose(tokens @ tokens.mT, patches @ patches.mT, atol=1e-4)
    transform(student, teacher, 0.5, MASK).sum().backward()
    assert all(p.grad is not None for p in transform.parameters())


@pytest.mark.parametrize(('channels', 'dims'), [(2, 12), (3, 8)])
def test_an_orthogonal_embedding_outlives_weight_decay(channels, dims):
    embed = OrthogonalPatchEmbed(channels, dims, 2)  # more dims than inputs, and fewer
    optimizer = torch.optim.AdamW(embed.parameters(), lr=0.01, weight_decay=0.1)
    for _ in range(20):
        optimizer.zero_grad()
        embed(torch.randn(2, channels, 4, 4)).square().sum().backward()
        optimizer.step()
    weight = embed.proj.weight
    product = weight.mT @ weight if dims > 4 * channels else weight @ weight.mT
    assert torch.allclose(product, torch.eye(len(product)), atol=1e-5)


def test_a_shared_encoder_is_the_student_s():
    transform = _transform(teacher_encoder='shared')
    own = _transform()
    state = transform.state_dict()
    assert not any(key.startswith('teacher_encoder') for key in state)
    for name, value in transform.student_encoder.state_dict().items():
        state[f'teacher_encoder.{name}'] = value
    own.load_state_dict(state)
    pair = _features()
    assert torch.equal(transform(*pair, 0.5, MASK), own(*pair, 0.5, MASK))


def test_an_averaged_encoder_follows_the_student_s():
    transform = _transform(teacher_encoder='average', average_momentum=0.75).train()
    pair = _features()
    start = {k: v.clone() for k, v in transform.student_encoder.state_dict().items()}
    for name, value in transform.teacher_encoder.state_dict().items():
        assert torch.equal(value, start[name])
    transform(*pair, 0.5, MASK).square().sum().backward()
    assert all(p.grad is None for p in transform.teacher_encoder.parameters())
    assert transform.teacher_embed.proj.weight.grad.abs().sum() > 0
    with torch.no_grad():
        for parameter in transform.student_encoder.parameters():
            parameter.add_(1.0)
    transform(*pair, 0.5, MASK)
    with torch.no_grad():  # measuring moves nothing
        transform(*pair, 0.5, MASK)
    transform.eval()(*pair, 0.5, MASK)
    for name, value in transform.teacher_encoder.state_dict().items():
        assert torch.allclose(value, start[name] + 0.25)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(student_embed='same'), 'student_embed must be one of'),
        (dict(teacher_encoder='ema'), 'teacher_encoder must be one of'),
        (
            dict(student_embed='tied'),
            "'tied', which needs features of equal width, but the student",
        ),
        (
            dict(teacher_encoder='shared', prior='none'),
            "prior='none' there are no teacher's tokens",
        ),
        (
            dict(teacher_encoder='average', average_momentum=1.5),
            r'average_momentum must be in \[0, 1\]',
        ),
        (dict(average_momentum=0.9), "is 0.9, but teacher_encoder is 'own', which averages noth"),
    ],
)
def test_forms_that_do_not_fit(kwargs, message):
    with pytest.raises(ValueError, match=message):
        _transform(**kwargs)
