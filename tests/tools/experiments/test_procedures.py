"""The trainings that procedures consist of, stopped and resumed; and the comparison as a whole."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dpk_mm.compat import load_checkpoint_file
from tools.experiments.compose import PUBLISHED, Comparison, find_facts, read_pair
from tools.experiments.data import prepare
from tools.experiments.grid import format_options
from tools.experiments.results import read_results
from tools.experiments.state import last_checkpoint
from tools.experiments.warm_start import warm_run_command

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
EPOCHS = 2
DATA = dict(kind='image_folders', val=2, subsets=dict(teacher=8, student=8))
OPTIONS = {
    'train_cfg.max_epochs': EPOCHS,
    'train_dataloader.batch_size': 8,
    'default_hooks.checkpoint.interval': 1,
}


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """Noise of three classes."""
    folder = tmp_path_factory.mktemp('images')
    generator = np.random.default_rng(0)
    for part, count in (('train', 10), ('test', 2)):
        for name in ('ant', 'bee', 'cat'):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f'{number}.png')
    return folder


@pytest.fixture(scope='module')
def runs(images, tmp_path_factory):
    """Trains entries, each once; answers with the checkpoint of an entry."""
    folder = tmp_path_factory.mktemp('runs')
    data = prepare(DATA, images, folder)
    pair = read_pair('mini_cifar100', ROOT)
    names = ['ab', 'ft', 'takd', 'eskd', 'crd']
    made = Comparison(pair, find_facts(pair, data), names, [0], folder / 'configs', ROOT)
    entries = [*made.teachers(0), *made.first_stages(0)]
    entries += [made.student(name, 0, PUBLISHED) for name in names]
    entries = {entry.name: entry for entry in entries}
    run_command = warm_run_command()
    found = {}

    def train(name, work_dir, epochs=EPOCHS, resume=False):
        entry = entries[name]
        options = dict(entry.options) | data | OPTIONS | {'train_cfg.max_epochs': epochs}
        options |= {key: checkpoint(other) for key, other in entry.checkpoints.items()}
        command = [sys.executable, 'tools/train.py', entry.config, '--work-dir', str(work_dir)]
        if entry.teacher is not None:
            command += ['--teacher-ckpt', checkpoint(entry.teacher)]
        command += ['--resume'] * resume
        command += ['--cfg-options', *format_options(options)]
        lines = []
        begin = time.monotonic()

        def tick():
            assert time.monotonic() - begin < 300, f'{work_dir} hangs:\n' + '\n'.join(lines[-30:])

        status = run_command(
            command,
            Path(f'{work_dir}.log'),
            cwd=ROOT,
            on_line=lines.append,
            on_tick=tick,
            poll_seconds=0.1,
        )
        assert status == 0, '\n'.join(lines[-30:])
        return last_checkpoint(work_dir)

    def checkpoint(name):
        if name not in found:
            found[name] = train(name, folder / name)
        return found[name]

    return train, checkpoint, folder


def assert_same_weights(one, other):
    left, right = (load_checkpoint_file(path)['state_dict'] for path in (one, other))
    assert list(left) == list(right)
    assert all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize(
    'name',
    [
        'assistant1-s0',
        'takd-published-s0',
        'ab-first-s0',
        'ab-published-s0',
        'ft-first-s0',
        'ft-published-s0',
        'crd-published-s0',
    ],
)
def test_each_part_goes_on_bit_for_bit(runs, name):
    train, checkpoint, folder = runs
    whole = checkpoint(name)
    stopped = folder / f'{name}-stopped'
    train(name, stopped, epochs=1)
    resumed = train(name, stopped, resume=True)
    assert Path(resumed).name == Path(whole).name == f'epoch_{EPOCHS}.pth'
    assert_same_weights(resumed, whole)


def test_a_teacher_that_is_stopped_early_is_the_teacher_of_that_epoch(runs):
    """The schedules are those of the whole training, so that it can be gone on with to the same end."""
    train, checkpoint, folder = runs
    early = folder / 'early'
    assert Path(train('early-s0', early, epochs=1)).name == 'epoch_1.pth'
    assert_same_weights(train('early-s0', early, resume=True), checkpoint('teacher-s0'))


def test_the_student_of_ab_starts_from_its_first_stage(runs):
    train, checkpoint, folder = runs
    first = load_checkpoint_file(checkpoint('ab-first-s0'))['state_dict']
    text = Path(f'{folder}/ab-published-s0.log')
    checkpoint('ab-published-s0')
    assert f'The student starts from {checkpoint("ab-first-s0")}' in text.read_text()
    assert any(key.startswith('architecture.backbone') for key in first)


def test_the_paraphraser_of_ft_is_that_of_the_first_stage(runs):
    _, checkpoint, _ = runs
    first, second = (
        load_checkpoint_file(checkpoint(name))['state_dict']
        for name in ('ft-first-s0', 'ft-published-s0')
    )
    keys = [key for key in first if '.paraphraser.' in key]
    assert keys and all(torch.equal(first[key], second[key]) for key in keys)


def test_a_comparison_is_one_command_and_is_gone_on_with(images, tmp_path):
    text = (ROOT / 'configs/_base_/pairs/mini_cifar100.py').read_text()
    text = text.replace("'../mini_cifar100.py'", f"'{ROOT}/configs/_base_/mini_cifar100.py'")
    before, _, after = text.partition('    data=dict(')
    after = after.partition('),\n')[2]
    (tmp_path / 'own.py').write_text(f'{before}    data={DATA!r},\n{after}')
    command = [sys.executable, str(ROOT / 'tools/experiments/compare.py'), str(tmp_path / 'own.py')]
    command += ['--data', str(images), '--seeds', '0', '--smoke', '--batches', '2']
    command += ['--cfg-options', 'train_dataloader.batch_size=8']
    command += ['--work-dir', str(tmp_path / 'work'), '--workers', '1', '--methods']
    done = [
        subprocess.run([*command, names], capture_output=True, text=True, cwd=ROOT)
        for names in ('kd', 'kd,ft')
    ]
    for run in done:
        assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    assert '0 done earlier' in done[0].stdout and '0 done earlier' not in done[1].stdout
    folder = tmp_path / 'work_smoke'
    entries = {result['entry'] for result in read_results(folder / 'results.jsonl')}
    assert entries == {
        *('teacher-s0', 'baseline-s0', 'kd-published-s0', 'kd-equal-s0'),
        *('ft-first-s0', 'ft-published-s0', 'ft-equal-s0'),
    }
    table = (folder / 'compare_own.md').read_text()
    assert table.count('| KD |') == 2 and '| student alone |' in table
    assert (folder / 'compare_own.png').is_file()
