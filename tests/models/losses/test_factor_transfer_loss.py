"""FT against the values of public code; the paraphraser's training and its file."""

import pytest
import torch

import dpk_mm  # noqa: F401
from dpk_mm.errors import CheckpointError
from dpk_mm.models.losses import FactorTransferLoss
from tests.helpers.golden_features import check, feats, feats_channels

STAGE = dict(index=0, student_channels=6, teacher_channels=10)


@pytest.mark.parametrize(
    ('inputs', 'mode', 'value', 'gradient'),
    [
        (feats, 'paper', 0.05708467, 0.001034929),
        (feats, 'code', 0.06942321, 0.004740452),
        (feats_channels, 'code', 0.06721092, 0.004799483),
    ],
)
def test_the_distance_of_factors_is_that_of_public_code(inputs, mode, value, gradient):
    student, teacher = inputs()
    check(
        FactorTransferLoss([STAGE], mode=mode).distance(student, teacher), student, value, gradient
    )


def test_the_paraphraser_learns_from_its_own_error_alone():
    student, teacher = feats_channels()
    loss = FactorTransferLoss([STAGE])
    parts = loss.parts([student], [teacher])
    assert list(parts) == ['factor', 'reconstruction']
    parts['factor'].backward()
    assert all(p.grad is None for p in loss.paraphraser.parameters())
    assert all(p.grad is not None for p in loss.translator.parameters())
    student.grad = None
    parts['reconstruction'].backward()
    assert student.grad is None
    assert all(p.grad is not None for p in loss.paraphraser.parameters())
    rebuilt = loss.paraphraser.decoder(loss.paraphraser.encoder(teacher))
    expected = (rebuilt - teacher).square().mean()
    torch.testing.assert_close(parts['reconstruction'], expected)


@pytest.mark.parametrize(
    'prefix', ['', 'paraphraser.', 'distiller.distill_losses.loss_ft.paraphraser.']
)
def test_a_paraphraser_of_a_file_stays_as_it_is(tmp_path, prefix):
    student, teacher = feats_channels()
    first = FactorTransferLoss([STAGE])
    state = {f'{prefix}{key}': value for key, value in first.paraphraser.state_dict().items()}
    torch.save(dict(state_dict=state | {'architecture.w': torch.ones(1)}), tmp_path / 'run.pth')
    loss = FactorTransferLoss([STAGE], paraphraser_ckpt=str(tmp_path / 'run.pth'))
    loss.translator.load_state_dict(first.translator.state_dict())
    expected = first.parts([student], [teacher])['factor']
    (value,) = loss.parts([student], [teacher]).values()
    torch.testing.assert_close(value, expected)
    value.backward()
    assert not any(p.requires_grad for p in loss.paraphraser.parameters())


def test_a_file_of_another_paraphraser_is_refused(tmp_path):
    torch.save(FactorTransferLoss([STAGE], rate=0.2).paraphraser.state_dict(), tmp_path / 'p.pth')
    with pytest.raises(CheckpointError, match=r'encoder.3.weight is \(2, 10, 3, 3\), and \(5, 10'):
        FactorTransferLoss([STAGE], paraphraser_ckpt=str(tmp_path / 'p.pth'))
    torch.save(dict(w=torch.ones(1)), tmp_path / 'q.pth')
    with pytest.raises(CheckpointError, match='encoder.0.weight is missing'):
        FactorTransferLoss([STAGE], paraphraser_ckpt=str(tmp_path / 'q.pth'))


def test_of_several_paraphrasers_the_one_that_fits_is_taken(tmp_path):
    """The last one was, whatever its name."""
    first, second = FactorTransferLoss([STAGE]), FactorTransferLoss([STAGE])
    other = FactorTransferLoss([STAGE], rate=0.2)

    def load(**losses):
        state = {
            f'distiller.{name}.paraphraser.{key}': value
            for name, loss in losses.items()
            for key, value in loss.paraphraser.state_dict().items()
        }
        torch.save(dict(state_dict=state), tmp_path / 'run.pth')
        return FactorTransferLoss([STAGE], paraphraser_ckpt=str(tmp_path / 'run.pth'))

    loaded = load(a=first, b=other).paraphraser.state_dict()
    for key, value in first.paraphraser.state_dict().items():
        assert torch.equal(loaded[key], value)
    names = "'distiller.a.paraphraser.', 'distiller.b.paraphraser.'"
    for losses, count in ((dict(a=first, b=second), 2), (dict(a=other, b=other), 0)):
        with pytest.raises(
            CheckpointError, match=f'holds 2 paraphrasers, {names}, of which {count} fit'
        ):
            load(**losses)


@pytest.mark.parametrize(
    ('channels', 'rate', 'width'), [(10, 0.5, 5), (10, 0.35, 3), (100, 0.29, 29), (10, 0.05, 1)]
)
def test_the_width_is_rounded_down(channels, rate, width):
    """As in public code; but a product that is whole stays, where its float is a little less."""
    loss = FactorTransferLoss([dict(STAGE, teacher_channels=channels)], rate=rate)
    assert loss.paraphraser.encoder[3].out_channels == width
    assert loss.translator(torch.ones(2, 6, 4, 4)).shape[1] == width


def test_arguments_out_of_range():
    with pytest.raises(ValueError, match='rate of FactorTransferLoss must be in'):
        FactorTransferLoss([STAGE], rate=0)
    with pytest.raises(ValueError, match='must be one stage, but are 2'):
        FactorTransferLoss([STAGE, dict(STAGE, index=1)])
