import json
import re
from pathlib import Path

import pytest

from dpk_mm.errors import UsageError
from tools.experiments.grid import Entry, Grid, format_options, load_grid

pytestmark = pytest.mark.usefixtures('quick_configs')

GRIDS = Path(__file__).parents[3] / 'tools' / 'experiments' / 'grids'
RESULTS = GRIDS.parents[2] / 'configs' / 'experiments' / 'results'

ENTRIES = [
    dict(name='teacher-a', config='t.py', method='teacher', label='a'),
    dict(name='teacher-b', config='t.py', method='teacher', label='b'),
    dict(name='baseline-s0', config='n.py', method='baseline'),
    dict(name='kd-s0', config='k.py', method='kd', teacher='teacher-b'),
]


def write(tmp_path, entries=ENTRIES, **content):
    path = tmp_path / 'small.json'
    path.write_text(json.dumps({'metric': 'accuracy/top1', 'entries': entries, **content}))
    return path


def test_a_python_and_a_json_file_say_the_same(tmp_path):
    path = tmp_path / 'small.py'
    path.write_text(f"metric = 'accuracy/top1'\nhelper = 1\nentries = {ENTRIES!r}\n")
    assert load_grid(path) == load_grid(write(tmp_path))
    grid = load_grid(path)
    assert grid.name == 'small'
    assert grid['kd-s0'].teacher == 'teacher-b'
    assert grid.parts == ('val', 'test')


@pytest.mark.parametrize(
    ('pattern', 'names'),
    [
        (None, ['teacher-a', 'teacher-b', 'baseline-s0', 'kd-s0']),
        ('baseline-*', ['baseline-s0']),
        ('*-s0', ['teacher-b', 'baseline-s0', 'kd-s0']),
    ],
)
def test_selected_entries_bring_their_teachers(tmp_path, pattern, names):
    assert [entry.name for entry in load_grid(write(tmp_path)).select(pattern)] == names


def test_a_pattern_without_a_match_lists_the_names(tmp_path):
    with pytest.raises(UsageError, match="matches 'dpk'; there are teacher-a, teacher-b"):
        load_grid(write(tmp_path)).select('dpk')


@pytest.mark.parametrize(
    ('entries', 'message'),
    [
        ([ENTRIES[0], ENTRIES[0]], 'two entries are called teacher-a'),
        ([ENTRIES[3], ENTRIES[1]], 'not an entry before it'),
        (
            [{**ENTRIES[0], 'checkpoints': {'load_from': 'nobody'}}],
            "a checkpoint of entry teacher-a is 'nobody', which is not an entry before it",
        ),
        ([dict(name='a', config='a.py')], 'entry a lacks method'),
        ([dict(ENTRIES[0], epochs=3)], 'entry teacher-a has epochs; its keys are name, config'),
        ([dict(ENTRIES[0], name='a/b')], "that of a folder, but one is 'a/b'"),
    ],
)
def test_a_wrong_entry_is_an_error(tmp_path, entries, message):
    with pytest.raises(UsageError, match=message):
        load_grid(write(tmp_path, entries))


def test_a_wrong_file_is_an_error(tmp_path):
    with pytest.raises(UsageError, match='There is no grid'):
        load_grid(tmp_path / 'none.py')
    (tmp_path / 'a.txt').write_text('')
    with pytest.raises(UsageError, match='a .py or a .json file'):
        load_grid(tmp_path / 'a.txt')
    (tmp_path / 'a.json').write_text('{"entries": []}')
    with pytest.raises(UsageError, match='does not set metric'):
        load_grid(tmp_path / 'a.json')
    with pytest.raises(UsageError, match='baselines, which is called references now'):
        load_grid(write(tmp_path, baselines=['alone']))
    with pytest.raises(UsageError, match="parts has 'train'; known are val, test"):
        load_grid(write(tmp_path, parts=['train']))


def test_options_are_read_back_as_they_were():
    from argparse import ArgumentParser

    from mmengine.config import DictAction

    options = {
        'a.lr': 1e-4,
        'a.flag': False,
        'a.none': None,
        'a.name': 'random',
        'a.place': "/o'brien(1)/x",
        'a.sizes': [1, 2],
        'a.pairs': [[1, 2], [3, 4]],
        'a.last': -10000,
    }
    parser = ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    read = parser.parse_args(['--cfg-options', *format_options(options)]).cfg_options
    assert read == options


def test_a_dict_is_no_option():
    with pytest.raises(UsageError, match='option mask is a dict'):
        format_options({'mask': {'type': 'block'}})


@pytest.mark.parametrize(
    'text', ['/my data', 'a,b', "'a'", '[a]', '(a)', 'a(b,c', Path('/my data')]
)
def test_a_text_that_a_training_would_read_as_another_one_is_refused(text):
    wanted = re.escape(f'option data.root is {str(text)!r}, but a training would read ')
    for value in (text, ['x', [text]]):
        with pytest.raises(UsageError, match=wanted):
            format_options({'data.root': value})


def test_a_list_in_a_text_is_told_from_a_path():
    with pytest.raises(UsageError, match='give a list, not a text'):
        format_options({'model.inherit': '[neck,rpn_head]'})
    with pytest.raises(UsageError, match='into a path without spaces'):
        format_options({'data.root': '/data,old/x'})


@pytest.mark.parametrize('path', sorted(GRIDS.glob('*.py')), ids=lambda path: path.stem)
def test_our_grids_fit_their_configs(path):
    """Every option of every entry changes something that the config builds its model or data of."""
    from mmengine.config import Config

    from dpk_mm.cli.options import load_config

    root = GRIDS.parents[2]
    decides = path.stem.endswith('_decision')
    needed = [f'{path.stem.removesuffix("_decision")}_settings.jsonl'] if decides else []
    needed += ['cifar_forms.jsonl'] if path.stem in ('cifar_decision', 'fashion_decision') else []
    needed += ['hituav_forms.jsonl'] if path.stem in ('hituav_decision', 'deeppcb_decision') else []
    missing = [name for name in needed if not (RESULTS / name).is_file()]
    if missing:
        # a decision has the settings that were chosen by another grid, and is refused before
        with pytest.raises(UsageError, match=f'{missing[0]} is not there: run the grid'):
            load_grid(path)
        return
    grid = load_grid(path)
    assert grid.name == path.stem
    # what is reported has a spread; what only chooses may be rough
    assert len({entry.seed for entry in grid.entries}) >= (3 if 'test' in grid.parts else 1)
    format_options(grid.options)
    checked = set()
    for entry in grid.entries:
        assert (entry.method == 'teacher') == bool(entry.label)
        key = (entry.config, entry.method, json.dumps(entry.options, default=str))
        if key in checked:
            continue
        checked.add(key)
        format_options(entry.options)
        plain = Config.fromfile(root / entry.config)
        cfg = load_config(str(root / entry.config), {**grid.options, **entry.options})
        if entry.teacher is None:
            assert 'teacher' not in cfg.model
        else:
            _check_teacher(cfg, grid[entry.teacher], root)
        replaced = [k.removesuffix('_delete_') for k in entry.options if k.endswith('._delete_')]
        for option in entry.options:
            if option.startswith(
                tuple(replaced)
            ):  # what is there instead is of the entry's own form
                option = next(node for node in replaced if option.startswith(node)).rstrip('.')
            parent, _, last = option.rpartition('.')
            if parent.endswith('.init_cfg') and f'{parent}.checkpoint' in entry.checkpoints:
                assert last in ('type', 'prefix')  # a module's weights, of another entry
                continue
            if f'{parent}.type' in entry.options:  # a hook or a mask that this entry alone has
                parent = parent.rpartition('.')[0]
            node = plain
            for part in filter(None, parent.split('.')):
                if isinstance(node, list):
                    node = node[int(part)]
                    continue
                assert part in node, f'{entry.name}: {option}'
                node = node[part]
    methods = {entry.method for entry in grid.entries}
    assert {'teacher', *grid.references} <= methods
    if not path.stem.endswith('_forms'):  # which compares forms of one method
        assert 'baseline' in methods


def _check_teacher(cfg, teacher, root):
    """The distillation's teacher is the model that the teacher's own entry trains."""
    from dpk_mm.cli.options import load_config

    own = load_config(str(root / teacher.config), dict(teacher.options)).model.to_dict()
    there = cfg.model.teacher.to_dict()
    own.pop('_scope_', None)
    there.pop('_scope_', None)
    assert there == own, teacher.name


@pytest.mark.parametrize(
    ('key', 'who'),
    [
        ('randomness.seed', 'every entry'),
        ('lr', 'kd-s0'),
        ('model.init_cfg.checkpoint', 'kd-s0'),
        ('model.teacher_ckpt', 'kd-s0'),
    ],
)
def test_options_that_would_undo_what_sets_an_entry_apart_are_refused(key, who):
    teacher = Entry('t', 'c.py', 'teacher', options={'train_cfg.max_epochs': 5})
    student = Entry(
        'kd-s0',
        'c.py',
        'kd',
        teacher='t',
        options={'lr': 0.1},
        checkpoints={'model.init_cfg.checkpoint': 't'},
    )
    grid = Grid('g', (teacher, student), 'accuracy/top1')
    with pytest.raises(UsageError, match=f'--cfg-options {key}: the grid sets it itself for {who}'):
        grid.check_options({key: 1})
    grid.check_options({'train_cfg.max_epochs': 1, 'train_dataloader.batch_size': 2})
