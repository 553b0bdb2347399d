import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from dpk_mm.errors import UsageError
from tools.experiments.compare import Driver, parse_args
from tools.experiments.compose import EQUAL, PUBLISHED, Comparison, find_facts, read_pair
from tools.experiments.grid import Grid
from tools.experiments.results import read_results
from tools.experiments.runner import Summary

ROOT = Path(__file__).parents[3]


@pytest.fixture
def driver(tmp_path, monkeypatch):
    (tmp_path / 'student.txt').write_text('a/1.jpg 0\n')
    loader = 'train_dataloader.dataset'
    data = {f'{loader}.data_root': str(tmp_path), f'{loader}.data_prefix.img_path': str(tmp_path)}
    pair = read_pair('mini_cifar100', ROOT)
    names = ['kd', 'dkd', 'ab', 'ft', 'eskd']
    comparison = Comparison(pair, find_facts(pair, data), names, [0, 1], tmp_path, ROOT)
    found = Driver(comparison, data, {}, tmp_path, ROOT, 1, 8, Console(quiet=True))
    grids = []

    def run(self, only=None, lock=None):
        grids.append(self.grid)
        return Summary(done=[entry.name for entry in self.grid.entries])

    def measure(self, name, commands, entry, console):
        return {f'loss_{"kd" if name == "eskd" else name}': 2.0}

    monkeypatch.setattr('tools.experiments.runner.GridRunner.run', run)
    monkeypatch.setattr('tools.experiments.share_files.ShareFiles.measure', measure)
    return found, grids


def names(grid: Grid):
    return [entry.name for entry in grid.entries]


def test_published_weights_come_first_seed_by_seed(driver):
    found, grids = driver
    found.run([PUBLISHED])
    assert len(grids) == 1
    assert names(grids[0]) == [
        *('baseline-s0', 'teacher-s0', 'kd-published-s0', 'dkd-published-s0'),
        *('ab-first-s0', 'ab-published-s0', 'ft-first-s0', 'ft-published-s0'),
        *('early-s0', 'eskd-published-s0'),
        *('baseline-s1', 'teacher-s1', 'kd-published-s1', 'dkd-published-s1'),
        *('ab-first-s1', 'ab-published-s1', 'ft-first-s1', 'ft-published-s1'),
        *('early-s1', 'eskd-published-s1'),
    ]


def test_equal_shares_are_measured_once_and_trained_with_all_seeds(driver):
    found, grids = driver
    summary = found.run([PUBLISHED, EQUAL])
    assert len(grids) == 3
    # what has to be there for the measurement
    assert names(grids[1]) == ['teacher-s0', 'ft-first-s0', 'early-s0']
    trained = [name for name in names(grids[2]) if '-equal-' in name]
    # AB's student has no loss that a weight could be given
    assert trained == [f'{m}-equal-s{s}' for s in (0, 1) for m in ('kd', 'dkd', 'ft', 'eskd')]
    assert len(summary.done) == len(set(summary.done))
    assert (
        grids[2]['dkd-equal-s1'].options['model.distiller.distill_losses.loss_dkd.loss_weight'] == 2
    )


def test_what_is_needed_to_measure_is_missing_without_its_checkpoint(driver, monkeypatch):
    found, _ = driver
    runner = found._runner(found._of_seeds(dict.fromkeys(found.comparison.names)))
    # lines of a results file whose folders are gone; the needed ones first
    for name in ('teacher-s0', 'early-s0', 'kd-published-s0', 'eskd-published-s0'):
        runner.results.record(name, dict(result_of(runner, name), seconds=1.0))
    missing = []

    def run(self, only=None, lock=None):
        states = self.status()
        missing.append([name for name, state in states.items() if state == 'missing'])
        return Summary()

    monkeypatch.setattr('tools.experiments.runner.GridRunner.run', run)
    found.run([EQUAL])
    assert missing[0] == ['teacher-s0', 'ft-first-s0', 'early-s0']


def test_what_is_missing_is_listed_without_training(driver):
    found, grids = driver
    status = found.status([PUBLISHED, EQUAL])
    assert status['teacher-s0'] == 'missing'
    assert status['dkd-equal-s1'] == 'missing, and its weight is not measured'
    assert 'ab-equal-s0' not in status and not grids


def test_the_defaults_are_all_methods_both_weights_and_three_seeds():
    args = parse_args(['mini_cifar100'])
    assert (args.methods, args.seeds, args.weights) == ('all', [0, 1, 2], ['published', 'equal'])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['mini_cifar10'], 'did you mean mini_cifar100'),
        (['mini_cifar100', '--methods', 'kdd'], 'did you mean kd'),
        (['mini_cifar100', '--methods', 'kd', '--teacher-ckpt', 'no.pth'], 'no file no.pth'),
        (['mini_cifar100', '--methods', 'kd'], 'needs the image_folders data'),
        (['mini_faster_rcnn', '--methods', 'kd'], 'kd acts in classification'),
        (['cifar100/resnet56_resnet20', '--methods', 'kd', '--data', 'x'], 'names its data itself'),
        (['mini_retinanet', '--methods', 'fgd', '--data', 'x'], 'draws its data'),
    ],
)
@pytest.mark.slow
def test_bad_arguments_are_one_sentence(arguments, message, tmp_path):
    command = [sys.executable, str(ROOT / 'tools/experiments/compare.py'), *arguments]
    done = subprocess.run(
        [*command, '--work-dir', str(tmp_path)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode != 0
    assert message in done.stderr and 'Traceback' not in done.stderr


def result_of(runner, name):
    """A line of the results file, as far as it is looked at here."""
    entry = runner.grid[name]
    return dict(
        grid=runner.grid.name,
        entry=name,
        method=entry.method,
        seed=entry.seed,
        checkpoint=f'{name}/epoch_1.pth',
        finished_at=1.0,
        inputs=runner.commands.inputs(entry),
    )


def test_results_of_other_options_are_not_compared(driver):
    found, _ = driver
    entries = found._of_seeds(dict.fromkeys(found.comparison.names))
    runner = found._runner(entries)
    for name in ('baseline-s0', 'teacher-s0', 'kd-published-s0'):
        runner.results.record(name, result_of(runner, name))
    found._extra_options = {'train_dataloader.batch_size': 16}
    runner = found._runner(entries)
    runner.results.load()
    runner.results.record('dkd-published-s0', result_of(runner, 'dkd-published-s0'))
    found._extra_options = {}
    # a call that names neither of the methods
    found.comparison = found.comparison.of(['ab'], [0])
    kept, others = found.current(read_results(found.results))
    assert {result['entry'] for result in kept} == {'baseline-s0', 'teacher-s0', 'kd-published-s0'}
    assert others == ['dkd-published-s0']


@pytest.mark.parametrize(
    ('key', 'who'),
    [
        ('train_cfg.max_epochs', 'the first stage of ft'),
        ('randomness.seed', 'every training'),
        ('model.distiller.distill_losses.loss_kd.loss_weight', 'eskd-equal-s0'),
        ('model.distiller.distill_losses.loss_ft.paraphraser_ckpt', 'ft-published-s1'),
    ],
)
def test_options_that_would_undo_what_sets_a_training_apart_are_refused(driver, key, who):
    found, _ = driver
    with pytest.raises(UsageError, match=f'{key}: .* for {who}'):
        found.check_options({key: 1}, [PUBLISHED, EQUAL])
    found.check_options({'train_dataloader.batch_size': 16}, [PUBLISHED, EQUAL])
