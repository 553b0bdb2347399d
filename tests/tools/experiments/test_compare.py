import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from dpk_mm.cli.lock import exclusive
from dpk_mm.errors import UsageError
from dpk_mm.fileio import write_json_atomically
from tools.experiments import compare
from tools.experiments.compare import Driver, has_one_part, parse_args
from tools.experiments.compose import EQUAL, PUBLISHED, Comparison, find_facts, read_pair
from tools.experiments.data import IDX_FILES, prepare
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


def test_one_teacher_is_trained_once(driver):
    found, grids = driver
    comparison = found.comparison
    found.comparison = Comparison(
        comparison.pair,
        comparison.facts,
        ['kd', 'eskd'],
        [0, 1],
        found.folder,
        ROOT,
        one_teacher=True,
    )
    found.run([PUBLISHED])
    assert names(grids[0]) == [
        *('baseline-s0', 'teacher-s0', 'kd-published-s0', 'early-s0', 'eskd-published-s0'),
        *('baseline-s1', 'kd-published-s1', 'eskd-published-s1'),
    ]


def test_methods_whose_share_is_not_known_are_named_and_the_others_go_on(driver, monkeypatch):
    found, grids = driver

    def measure(self, name, commands, entry, console):
        if name == 'kd':
            raise UsageError('no gradient')
        return {f'loss_{name}': 2.0}

    def run(self, only=None, lock=None):
        grids.append(self.grid)
        failed = [entry.name for entry in self.grid.entries if entry.name == 'early-s0']
        return Summary(failed=failed)

    monkeypatch.setattr('tools.experiments.share_files.ShareFiles.measure', measure)
    monkeypatch.setattr('tools.experiments.runner.GridRunner.run', run)
    summary = found.run([EQUAL])
    trained = [name for name in names(grids[-1]) if '-equal-' in name]
    assert trained == [f'{m}-equal-s{s}' for s in (0, 1) for m in ('dkd', 'ft')]
    assert summary.failed == ['early-s0', 'kd-equal-s0', 'kd-equal-s1']
    assert summary.skipped == ['eskd-equal-s0', 'eskd-equal-s1']


def finished(found, *wanted):
    """Writes results of entries as if they were trained with the settings of now."""
    runner = found._runner(found._of_seeds(dict.fromkeys(found.comparison.names)))
    runner.results.load()
    for name in wanted:
        runner.results.record(name, dict(result_of(runner, name), seconds=1.0))
    return runner


def test_a_share_of_another_teacher_is_not_shown(driver):
    found, _ = driver
    runner = finished(found, 'baseline-s1', 'teacher-s1', 'kd-published-s1')
    entry = runner.grid['kd-published-s1']
    share = dict(factors=dict(loss_kd=2.0), published=dict(loss_kd=0.5), seed=1)
    share['inputs'] = found._shares._inputs(runner.commands, entry)
    write_json_atomically(found.folder / 'shares' / 'kd.json', share)
    results = read_results(found.results)
    # measured with another seed than the first of this call
    assert found.shares(results)['kd'] == share and found.shares(results)['dkd'] is None
    assert found._weights('kd') == found.comparison.equal_weights('kd', {'loss_kd': 2.0})
    runner.results.record('teacher-s1', dict(runner.results['teacher-s1'], finished_at=2.0))
    assert found.shares(results)['kd'] is None and found._weights('kd') is None


def test_results_say_the_weights_where_what_was_measured_is_gone(driver):
    found, _ = driver
    runner = finished(found, 'baseline-s0', 'teacher-s0')
    own = found.comparison.equal_weights('kd', {'loss_kd': 2.0})
    runner = found._runner(found._of_seeds({'kd': own}))
    runner.results.load()
    line = dict(result_of(runner, 'kd-equal-s0'), options=own, setting=dict(weight=EQUAL))
    runner.results.record('kd-equal-s0', line)
    assert found._weights('kd') == own
    kept, others = found.current(read_results(found.results))
    assert 'kd-equal-s0' in {result['entry'] for result in kept} and not others
    runner.results.record('kd-equal-s0', dict(line, inputs='of another batch size'))
    assert found._weights('kd') is None


def test_looking_leaves_the_configs_as_they_are(tmp_path, monkeypatch, capsys):
    for part, count in (('train', 300), ('test', 2)):
        for label in range(100):
            folder = tmp_path / 'images' / part / f'c{label:02}'
            folder.mkdir(parents=True)
            for number in range(count if label % 5 == 0 else 1):
                (folder / f'{number}.png').touch()
    work = tmp_path / 'work'
    arguments = ['compare.py', 'mini_cifar100', '--data', str(tmp_path / 'images')]
    arguments += ['--methods', 'kd', '--seeds', '0', '--work-dir', str(work)]
    monkeypatch.setattr(sys, 'argv', [*arguments, '--list', '--weights', 'published'])
    assert compare.main() == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == f'No results in {work} yet.'
    states = {line.split()[0]: line.split()[1] for line in lines}
    assert states == dict.fromkeys(('baseline-s0', 'teacher-s0', 'kd-published-s0'), 'missing')
    monkeypatch.setattr(sys, 'argv', [*arguments, '--report'])
    with pytest.raises(UsageError, match=rf'^--report: {work}/results.jsonl has no result of this'):
        compare.main()
    assert not work.exists()
    # a call that trains is kept out while another one holds the folder, and writes nothing, either
    with exclusive(work):
        monkeypatch.setattr(sys, 'argv', arguments)
        with pytest.raises(UsageError, match='Another run'):
            compare.main()
        assert [path.name for path in work.iterdir()] == ['.lock']


def test_a_seed_given_twice_is_refused(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['compare.py', 'mini_cifar100', '--seeds', '0', '1', '0'])
    with pytest.raises(UsageError, match='--seeds: one of 0 1 0 is given twice'):
        compare.main()


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
        metric=runner.grid.metric,
        seed=entry.seed,
        setting=dict(entry.setting),
        options={},
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
        ('model.distiller.distill_losses.loss_kd.loss_weight', 'eskd-equal'),
        ('model.distiller.distill_losses.loss_ft.paraphraser_ckpt', 'ft-published-s1'),
    ],
)
def test_options_that_would_undo_what_sets_a_training_apart_are_refused(driver, key, who):
    found, _ = driver
    with pytest.raises(UsageError, match=f'{key}: .* for {who}'):
        found.check_options({key: 1}, [PUBLISHED, EQUAL])
    found.check_options({'train_dataloader.batch_size': 16}, [PUBLISHED, EQUAL])


@pytest.mark.parametrize('name', ['cnn', 'vit'])
def test_validation_and_test_images_of_fashion_differ(name, tmp_path):
    for file in IDX_FILES:
        (tmp_path / file).touch()
    pair = read_pair(f'mini_fashion_{name}', ROOT)
    options = prepare(pair.comparison['data'], tmp_path, tmp_path / 'work')
    assert has_one_part(pair.cfg, {})
    assert not has_one_part(pair.cfg, options)
    cfg = pair.cfg.copy()
    cfg.merge_from_dict(options)
    val, test = (cfg[f'{part}_dataloader'].dataset for part in ('val', 'test'))
    assert (val.split, val.test_mode, val.indices) == ('train', False, -10000)
    assert (test.split, test.test_mode, test.get('indices')) == ('test', True, None)
