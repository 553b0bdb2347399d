import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.fileio import FileClient, LocalBackend, get_file_backend
from mmengine.hooks import CheckpointHook
from mmengine.model import BaseModel
from mmengine.runner import Runner, save_checkpoint
from torch import nn

from dpk_mm import compat, fileio
from dpk_mm.compat import atomic_checkpoints, load_checkpoint_file
from dpk_mm.compat.atomic_checkpoints import numbered_checkpoints
from dpk_mm.fileio import DiskFullError

compat.apply()


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 100)

    def forward(self, inputs, mode='tensor'):
        loss = self.linear(torch.stack(list(inputs)).float()).square().mean()
        return dict(loss=loss) if mode == 'loss' else [loss]


class Scores(BaseMetric):
    """The scores of a run, one for each validation."""

    def __init__(self, scores):
        super().__init__()
        self.scores = iter(scores)

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        score = next(self.scores)
        return {'score': score, 'other': score}


def build_runner(work_dir, epochs=3, scores=(), **checkpoint):
    loader = dict(
        batch_size=2,
        dataset=[dict(inputs=torch.ones(4))] * 2,
        sampler=dict(type='DefaultSampler', shuffle=False),
    )
    validation = {}
    if scores:
        validation = dict(
            val_dataloader=loader,
            val_cfg=dict(type='ValLoop'),
            val_evaluator=Evaluator(Scores(scores)),
        )
    return Runner(
        Model(),
        str(work_dir),
        experiment_name=work_dir.name,
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, **checkpoint)),
        log_level='ERROR',
        **validation,
    )


def test_both_ways_to_the_local_backend_write_whole_files(tmp_path, monkeypatch):
    written = []
    whole = atomic_checkpoints.write_bytes_atomically
    monkeypatch.setattr(
        atomic_checkpoints, 'write_bytes_atomically', lambda *a: (written.append(a[0]), whole(*a))
    )
    save_checkpoint(dict(x=torch.ones(1)), str(tmp_path / 'a.pth'))
    save_checkpoint(
        dict(x=torch.ones(1)), str(tmp_path / 'b.pth'), backend_args=dict(backend='local')
    )
    FileClient('disk').put(b'c', str(tmp_path / 'new' / 'c.pth'))
    assert [path.name for path in written] == ['a.pth', 'b.pth', 'c.pth']
    assert load_checkpoint_file(tmp_path / 'a.pth')['x'] == 1
    assert (tmp_path / 'new' / 'c.pth').read_bytes() == b'c'
    assert isinstance(get_file_backend(str(tmp_path)), LocalBackend)


def test_devices_and_pipes_are_written_as_they_are(tmp_path):
    get_file_backend('x').put(b'x', '/dev/null')
    assert not Path('/dev/null').is_file()


def test_the_new_one_is_whole_before_the_old_one_goes(tmp_path, monkeypatch):
    seen = []
    remove = LocalBackend.remove

    def watched(self, path):
        there = [p.name for p in numbered_checkpoints(tmp_path / 'run')]
        last = (tmp_path / 'run' / 'last_checkpoint').read_text()
        seen.append((Path(path).name, there, Path(last).name))
        remove(self, path)

    monkeypatch.setattr(LocalBackend, 'remove', watched)
    build_runner(tmp_path / 'run', max_keep_ckpts=1).train()
    assert seen == [
        ('epoch_1.pth', ['epoch_2.pth', 'epoch_1.pth'], 'epoch_2.pth'),
        ('epoch_2.pth', ['epoch_3.pth', 'epoch_2.pth'], 'epoch_3.pth'),
    ]
    assert [p.name for p in numbered_checkpoints(tmp_path / 'run')] == ['epoch_3.pth']


def test_the_best_one_too(tmp_path, monkeypatch):
    seen = []
    remove = LocalBackend.remove

    def watched(self, path):
        seen.append((Path(path).name, sorted(p.name for p in Path(path).parent.glob('best*'))))
        remove(self, path)

    monkeypatch.setattr(LocalBackend, 'remove', watched)
    runner = build_runner(
        tmp_path / 'run', scores=(0.1, 0.3, 0.2), save_best='score', rule='greater'
    )
    runner.train()
    both = ['best_score_epoch_1.pth', 'best_score_epoch_2.pth']
    assert seen == [('best_score_epoch_1.pth', both)]
    assert [p.name for p in (tmp_path / 'run').glob('best*')] == both[1:]


def test_a_best_one_that_is_written_again_under_its_name_stays(tmp_path):
    path = tmp_path / 'best.pth'
    path.write_bytes(b'old')
    late = atomic_checkpoints._LateRemoval(get_file_backend(str(path)))
    late.remove(str(path))
    assert late.isfile(str(path))
    get_file_backend(str(path)).put(b'new', str(path))
    late.finish()
    assert path.read_bytes() == b'new'


def resumed(work_dir, checkpoint, scores, **kwargs):
    runner = build_runner(work_dir, epochs=4, scores=scores, **kwargs)
    runner._resume, runner._load_from = True, str(checkpoint)
    runner.train()
    return runner


def best_of(folder):
    return sorted(path.name for path in folder.glob('best*'))


@pytest.mark.parametrize('several', [False, True])
def test_a_run_that_is_resumed_elsewhere_leaves_the_best_one_of_the_first(tmp_path, several):
    save_best = ['score', 'other'] if several else 'score'
    settings = dict(save_best=save_best, rule='greater', published_keys=['state_dict'])
    first, second = tmp_path / 'first', tmp_path / 'second'
    build_runner(first, scores=(0.1, 0.3, 0.2), **settings).train()
    before = best_of(first)
    assert 'best_score_epoch_2.pth' in before
    # 0.25 does not beat 0.3, the score of the first run
    resumed(second, first / 'epoch_3.pth', (0.25,), **settings)
    assert (best_of(first), best_of(second)) == (before, [])
    third = tmp_path / 'third'
    resumed(third, first / 'epoch_3.pth', (0.4,), **settings)
    assert best_of(first) == before
    assert 'best_score_epoch_4.pth' in best_of(third)


def test_a_copied_work_folder_has_a_best_one_of_its_own(tmp_path):
    settings = dict(save_best='score', rule='greater')
    build_runner(tmp_path / 'first', scores=(0.1, 0.3, 0.2), **settings).train()
    copied = tmp_path / 'copied'
    shutil.copytree(tmp_path / 'first', copied)
    resumed(copied, copied / 'epoch_3.pth', (0.4,), **settings)
    assert best_of(tmp_path / 'first') == ['best_score_epoch_2.pth']
    assert best_of(copied) == ['best_score_epoch_4.pth']


def full_after(monkeypatch, number):
    """Lets the disk be full from the `number`-th checkpoint on, with half of it written."""
    real = fileio.replacing
    count = 0

    def write(path, content):
        nonlocal count
        count += 1
        with real(path) as temporary:
            temporary.write_bytes(content[: len(content) // 2])
            if count >= number:
                raise OSError(errno.ENOSPC, 'No space left on device')
            temporary.write_bytes(content)

    monkeypatch.setattr(atomic_checkpoints, 'write_bytes_atomically', write)


def test_a_full_disk_leaves_the_last_good_one_and_names_it(tmp_path, monkeypatch):
    full_after(monkeypatch, 3)
    with pytest.raises(DiskFullError) as error:
        build_runner(tmp_path / 'run', max_keep_ckpts=1).train()
    message, folder = str(error.value), tmp_path / 'run'
    assert f'{folder / "epoch_3.pth"} could not be written: the disk' in message
    assert ' MB free), and this checkpoint needs 0.0 MB; ' in message
    assert f'the last good checkpoint is {folder / "epoch_2.pth"};' in message
    assert message.endswith('continue with --resume.') and '\n' not in message
    assert [p.name for p in numbered_checkpoints(folder)] == ['epoch_2.pth']
    assert (folder / 'last_checkpoint').read_text() == str(folder / 'epoch_2.pth')
    assert load_checkpoint_file(folder / 'epoch_2.pth')['meta']['epoch'] == 2
    assert not list(folder.glob('.*'))

    monkeypatch.undo()
    resumed = build_runner(tmp_path / 'run', max_keep_ckpts=1)
    resumed._resume = True
    resumed.train()
    assert [p.name for p in numbered_checkpoints(folder)] == ['epoch_3.pth']


def test_a_full_disk_at_the_first_checkpoint(tmp_path, monkeypatch):
    full_after(monkeypatch, 1)
    with pytest.raises(DiskFullError, match='there is no checkpoint before it; .* --work-dir'):
        build_runner(tmp_path / 'run').train()


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of one megabyte, where that may be made."""
    place = tmp_path / 'disk'
    place.mkdir()
    try:
        done = subprocess.run(
            ['mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', str(place)], capture_output=True
        )
    except FileNotFoundError:
        pytest.skip('there is no mount here')
    if done.returncode:
        pytest.skip('mounting needs rights that this user has not')
    yield place
    subprocess.run(['umount', str(place)], check=True)


def test_a_disk_that_is_really_full(small_disk):
    backend = get_file_backend(str(small_disk))
    good = small_disk / 'epoch_1.pth'
    save_checkpoint(dict(x=torch.arange(100_000.0)), str(good))
    with pytest.raises(DiskFullError) as error:
        backend.put(bytes(900_000), str(small_disk / 'epoch_2.pth'))
    assert 'this checkpoint needs 0.9 MB; the last good checkpoint is ' + str(good) in str(
        error.value
    )
    assert '(0.6 MB free)' in str(error.value)
    assert os.listdir(small_disk) == ['epoch_1.pth']
    assert load_checkpoint_file(good)['x'][-1] == 99_999
    backend.put(bytes(500_000), str(small_disk / 'epoch_2.pth'))


def test_order_of_checkpoints(tmp_path):
    for name in (
        'epoch_2.pth',
        'epoch_10.pth',
        'iter_500.pth',
        'best_x_epoch_3.pth',
        'epoch_x.pth',
    ):
        (tmp_path / name).touch()
    found = [path.name for path in numbered_checkpoints(tmp_path)]
    assert found == ['epoch_10.pth', 'epoch_2.pth', 'iter_500.pth']
    assert numbered_checkpoints(tmp_path / 'none') == []


def test_the_hook_is_the_one_that_was_patched():
    for name in ('_save_checkpoint_with_step', '_save_best_checkpoint'):
        assert getattr(CheckpointHook, name).__wrapped__.__name__ == name
