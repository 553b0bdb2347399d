from tools.benchmark_suites.growth import windows
from tools.benchmark_suites.sizes import sizes
from tools.benchmark_suites.stored import stored


def test_sizes_compare_large_and_small_of_one_stage_and_of_all():
    rows = sizes(
        'configs/mini/fashion_cnn_dpk.py',
        rounds=1,
        device='cpu',
        batch_size=4,
        image_size=(28, 28),
        warmup=0,
        with_memory=False,
    )
    notes = {row.case: row.note for row in rows}
    assert [case for case, note in notes.items() if note] == [
        'DPK large, last',
        'DPK large, second_last and last',
        'DPK small, last',
        'DPK small, second_last and last',
    ]
    millions = {case: float(note.split()[0]) for case, note in notes.items() if note}
    assert millions['DPK small, last'] < millions['DPK large, last']
    assert all(row.ratio > 0 for row in rows[1:])


def test_windows_and_all_tokens_are_compared_with_the_floor():
    rows = windows('configs/mini/faster_rcnn_dpk.py', 1, 'cpu', side=352)
    assert [row.ratio is None for row in rows] == [True, False, False]


def test_stored_logits_take_the_bytes_that_are_said():
    rows = stored(1, 'cpu', batch_size=4, batches=1)
    assert [row.case for row in rows] == ['student alone', 'KD, live teacher', 'KD, stored logits']
    # 20 logits of 4 bytes and 4 for the rest, the headers and the manifest on 8 images
    assert 84 < float(rows[2].note.split()[0]) < 84 + 200
