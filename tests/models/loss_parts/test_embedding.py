"""Which vectors a record gives."""

import pytest
import torch

from dpk_mm.errors import UsageError
from dpk_mm.models.loss_parts.embedding import check_images, embedding_of


def test_vectors_maps_and_tuples():
    vectors, maps = torch.rand(3, 5), torch.rand(3, 5, 2, 4)
    assert embedding_of(vectors, 'XLoss', 'student') is vectors
    mean = maps.sum(dim=(2, 3)) / 8
    torch.testing.assert_close(embedding_of(maps, 'XLoss', 'student'), mean)
    torch.testing.assert_close(embedding_of((vectors, maps), 'XLoss', 'teacher'), mean)
    assert embedding_of(vectors.half(), 'XLoss', 'student').dtype == torch.float32
    for record in (vectors, maps):
        assert embedding_of(record.double(), 'XLoss', 'student').dtype == torch.float64


@pytest.mark.parametrize(
    ('record', 'found'),
    [(torch.rand(3, 7, 5), r'\(3, 7, 5\)'), ((), 'tuple'), (None, 'NoneType')],
)
def test_what_is_no_embedding(record, found):
    with pytest.raises(UsageError, match=f"XLoss needs .* teacher_embedding, .*{found}.*'neck'"):
        embedding_of(record, 'XLoss', 'teacher')


def test_too_few_images():
    check_images(2, 2, 'XLoss')
    with pytest.raises(UsageError, match='needs 3 at least, but the batch has 2; .*drop_last=True'):
        check_images(2, 3, 'XLoss')
