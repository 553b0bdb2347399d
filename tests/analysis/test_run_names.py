import pytest

from dpk_mm.analysis.run_names import by_name, named_runs, split_name
from dpk_mm.errors import UsageError


def test_names_and_paths(tmp_path):
    folder = tmp_path / 'lr=0.1'
    folder.mkdir()
    assert split_name(str(folder)) == (None, str(folder))
    assert split_name(f'a={folder}') == ('a', str(folder))
    assert split_name('runs/größe ü') == (None, 'runs/größe ü')
    assert named_runs(['a=x', 'y']) == {'a': 'x', 'y': 'y'}


def test_no_run_replaces_another():
    with pytest.raises(UsageError, match='two runs are called a, x and y: write NAME=RUN'):
        named_runs(['a=x', 'b=z', 'a=y'])


def test_no_value_replaces_another():
    assert by_name([('b', 1), ('a', 2)], 'students') == {'b': 1, 'a': 2}
    with pytest.raises(UsageError, match='two students are called a, x and y: give each a name'):
        by_name([('a', 'x'), ('a', 'y')], 'students')
