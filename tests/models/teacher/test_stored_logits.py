import json

import numpy as np
import pytest
import torch

from dpk_mm.models.losses import KDLoss
from dpk_mm.models.teacher.stored_logits import StoredLogits, compress, expand


def create(folder, top_k=3, images=5, **kwargs):
    settings = dict(num_classes=7, tau=2.0, source=dict(dataset='a')) | kwargs
    return StoredLogits.create(folder, 2, images, top_k=top_k, **settings)


def logits(n=10, seed=0):
    return 4 * torch.randn(n, 7, generator=torch.Generator().manual_seed(seed))


def filled(folder, **kwargs):
    store = create(folder, **kwargs)
    for part in logits().split(5):
        store.write(part)
    store.save()
    return StoredLogits(folder)


def test_probabilities_of_the_kept_classes_are_the_teachers_and_the_others_share_the_rest():
    values = logits()
    kept = expand(
        torch.cat(
            [x.float() for x in (*compress(values, 3, 2.0)[:2],)]
            + [compress(values, 3, 2.0)[2][:, None]],
            1,
        ),
        7,
        2.0,
    )
    exact, found = (values / 2.0).softmax(1), (kept / 2.0).softmax(1)
    for own, given in zip(exact, found, strict=True):
        order = own.argsort(descending=True)
        torch.testing.assert_close(given[order[:3]], own[order[:3]], rtol=3e-3, atol=1e-6)
        others = own[order[3:]].sum() / 4
        torch.testing.assert_close(given[order[3:]], others.expand(4), rtol=3e-3, atol=1e-6)


def test_with_all_classes_the_loss_is_the_live_one_to_the_precision_of_float16(tmp_path):
    store = filled(tmp_path, top_k=100)  # more than there are
    assert store.top_k == 7
    stored = torch.from_numpy(np.stack([store.read(i // 5, i % 5) for i in range(10)]))
    student = logits(seed=1)
    for tau in (1.0, 4.0):
        loss = KDLoss(tau=tau)
        exact, found = loss(student, logits()), loss(student, expand(stored, 7, store.tau))
        assert found.item() == pytest.approx(exact.item(), rel=2e-3)


def test_what_was_written_can_be_read_and_checked(tmp_path):
    store = filled(tmp_path)
    store.check()
    best = logits().argmax(1).tolist()
    assert [int(store.read(i // 5, i % 5)[3]) for i in range(10)] == best
    assert all(store.read(i // 5, i % 5)[0] == 0 for i in range(10))
    # 10 images of 3 logits; numpy's header has 128 bytes
    arrays = sum(
        (tmp_path / name).stat().st_size - 128 for name in ('values.npy', 'classes.npy', 'rest.npy')
    )
    assert arrays == 10 * (3 * 4 + 4) and store.size >= arrays


def test_a_changed_file_is_found(tmp_path):
    store = filled(tmp_path)
    content = bytearray((tmp_path / 'classes.npy').read_bytes())
    content[-1] ^= 1
    (tmp_path / 'classes.npy').write_bytes(content)
    with pytest.raises(ValueError, match=r'classes.npy is not the file that was written'):
        store.check()


def test_one_that_was_ended_goes_on(tmp_path):
    store = create(tmp_path)
    store.write(logits()[:5])
    store.save()
    store.write(logits()[5:7])  # not saved
    with pytest.raises(ValueError, match='not whole: 5 of 10 are there'):
        StoredLogits(tmp_path)
    again = create(tmp_path)
    assert again.done == 5 and not again.complete
    again.write(logits()[5:])
    again.save()
    whole = filled(tmp_path / 'other')
    assert json.loads((tmp_path / 'manifest.json').read_text()) == whole.manifest


@pytest.mark.parametrize(
    'change', [dict(tau=1.0), dict(images=6), dict(top_k=2), dict(source=dict(dataset='b'))]
)
def test_a_folder_of_something_else_is_refused(tmp_path, change):
    create(tmp_path)
    with pytest.raises(ValueError, match=f'holds logits of another {next(iter(change))}'):
        create(tmp_path, **change)


def test_an_empty_folder_names_the_command(tmp_path):
    with pytest.raises(ValueError, match=r'tools/store_logits.py CONFIG'):
        StoredLogits(tmp_path)
