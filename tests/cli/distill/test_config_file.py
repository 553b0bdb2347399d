import pytest
from mmengine.config import Config

from dpk_mm.cli.distill.config_file import assignments, changes, comment, literal, plain, settings


def merged(tmp_path, old, new):
    """What mmengine makes of the base and a file with the changes."""
    for name, lines in (
        ('base.py', settings(old)),
        ('file.py', ["_base_ = './base.py'", *settings(changes(old, new))]),
    ):
        (tmp_path / name).write_text('\n'.join(lines) + '\n')
    return plain(Config.fromfile(tmp_path / 'file.py').to_dict())


@pytest.mark.parametrize(
    'new',
    [
        dict(a=dict(b=1, c=dict(d=2)), e=[1, 2]),
        dict(a=dict(b=1, c=dict(d=3, f='new')), e=[1, 2]),
        dict(a=dict(b=1), e=(3,)),
        dict(a=dict(b=dict(x=1), c=dict(d=2)), e=[dict(type='X')]),
        dict(a=dict(b=None, c=None), e=None, g=dict(h=dict(i=(1, 2)))),
        dict(a=dict(b=1.5, c=dict(d="it's")), e=[1, 2]),
    ],
)
def test_a_base_and_the_changes_are_the_whole(tmp_path, new):
    old = dict(a=dict(b=1, c=dict(d=2)), e=[1, 2])
    assert merged(tmp_path, old, new) == new


def test_only_what_differs_is_written():
    old = dict(a=dict(b=1, c=2), d=3)
    assert changes(old, old) == {}
    assert changes(old, dict(a=dict(b=1, c=5), d=3)) == dict(a=dict(c=5))
    assert changes(old, dict(a=dict(b=1), d=3)) == dict(a=dict(_delete_=True, b=1))
    assert changes(dict(a=1), dict(a=True)) == dict(a=True)


def test_lists_of_dicts_by_line():
    old = dict(head=[dict(n=80), dict(n=80)], size=(1, 2))
    new = dict(head=[dict(n=3), dict(n=3)], size=(1, 3))
    assert assignments(old, new, 'model') == [
        'model.head[0].n = 3',
        'model.head[1].n = 3',
        'model.size = (1, 3)',
    ]
    assert assignments(old, old, 'model') == []
    assert assignments(old, dict(head=[dict(n=3)], size=(1, 2)), 'model') is None
    assert assignments(old, dict(head=[dict(m=3), dict(n=3)], size=(1, 2)), 'model') is None


def test_literals_are_read_back():
    value = dict(
        pipeline=[dict(type='Resize', scale=(1333, 800), keep_ratio=True)] * 3,
        names=('only one',),
        table={'a b': 1, 'class': [None, 1e-05]},
        empty=[dict(), (), []],
    )
    text = literal(value)
    assert eval(text) == value
    assert max(map(len, text.splitlines())) <= 100


def test_a_test_like_the_validation_is_said_so():
    lines = settings(
        dict(val_dataloader=dict(a=1), test_dataloader=dict(a=1), test_evaluator=dict(b=2))
    )
    assert lines[1] == 'test_dataloader = val_dataloader'
    assert lines[2] == 'test_evaluator = dict(b=2)'


def test_comments_and_scopes():
    assert comment(['a', '']) == ['# a', '#']
    assert plain(Config(dict(a=dict(_scope_='mmdet', b=(1, dict(_scope_='x')))))._cfg_dict) == dict(
        a=dict(b=(1, {}))
    )
