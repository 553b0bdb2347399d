from pathlib import Path

import pytest

from dpk_mm.cli.distill.arguments import build_parser, command_line, to_request
from dpk_mm.errors import UsageError

PAIR = ['--teacher', 'mmdet::retinanet/big.py', '--student', 'configs/small.py']


def request(*options, cuda=False):
    return to_request(build_parser().parse_args([*PAIR, *options]), cuda)


def test_defaults():
    found = request()
    assert found.work_dir == Path('work_dirs/small_from_big')
    assert found.out == found.work_dir / 'distill.py'
    assert (found.method, found.train, found.gpus, found.cuda) == (None, False, 1, False)


def test_options():
    found = request(
        '--work-dir',
        'w',
        '--out',
        'c.py',
        '--data',
        'a.json',
        'b.json',
        '--cfg-options',
        'a.b=1',
        cuda=True,
    )
    assert (found.work_dir, found.out, found.data) == (
        Path('w'),
        Path('c.py'),
        ['a.json', 'b.json'],
    )
    assert found.cfg_options == {'a.b': 1} and found.cuda
    assert request('--device', 'cpu', cuda=True).cuda is False


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (['--train-teacher'], 'add --train'),
        (['--baseline'], 'add --train'),
        (['--gradient-share', '1'], 'add --train'),
        (['--train', '--teacher-epochs', '3'], 'add --train-teacher'),
        (['--device', 'cuda'], 'there is no GPU here'),
        (['--out', 'config'], 'such as config.py'),
    ],
)
def test_options_that_do_not_go_together(options, words):
    with pytest.raises(UsageError, match=words):
        request(*options)


@pytest.mark.parametrize(
    'option', ['--epochs', '--batch-size', '--img-size', '--lr', '--gradient-share']
)
@pytest.mark.parametrize('value', ['0', '-1', 'x', 'inf'])
def test_numbers_that_are_none(option, value, capsys):
    with pytest.raises(SystemExit):
        request(f'{option}={value}')
    assert 'was expected' in capsys.readouterr().err


def test_the_command_can_be_typed_again():
    assert command_line(['--data', 'my data']) == "python tools/distill.py --data 'my data'"
