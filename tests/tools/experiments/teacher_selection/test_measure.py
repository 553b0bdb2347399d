import pytest

from tools.experiments.teacher_selection.measure import (
    agreement,
    choices,
    next_size_up,
    read_truth,
    report,
)

#: Teacher -> size, its own score, mean score of its students.
TEACHERS = {'t6': (6, 80.0, 70.0), 't12': (12, 84.0, 74.0), 't16': (16, 86.0, 72.0)}


def results():
    found = [
        {
            'method': 'teacher',
            'label': name,
            'teacher': None,
            'setting': {},
            'scores': {'val': own, 'test': own - 1},
            'options': {'model.backbone.base_channels': size},
            'seed': 0,
            'seconds': 500.0,
        }
        for name, (size, own, _) in TEACHERS.items()
    ]
    found += [
        {
            'method': 'kd',
            'label': '',
            'teacher': name,
            'setting': {'width': 8},
            'scores': {'val': 1.0, 'test': mean + shift},
            'options': {'model.architecture.backbone.base_channels': 8},
            'seed': seed,
            'seconds': 10.0,
        }
        for name, (_, _, mean) in TEACHERS.items()
        for seed, shift in ((0, -1.0), (1, 1.0))
    ]
    return found


def look(score, error, cka):
    return {'metrics': {'m': score}, 'calibration_error': error, 'cka': {'a': cka, 'b': cka}}


SELECTION = {
    'metric': 'm',
    'sentence': 'Cannot tell.',
    'seconds': 30.0,
    'passes': {'t6': look(79, 0.1, 0.5), 't12': look(85, 0.05, 0.4), 't16': look(86, 0.2, 0.3)},
    'rounds': [
        {
            'fraction': 0.2,
            'seconds': 9.0,
            'scores': {'t6': {'0': 1}, 't12': {'0': 2}, 't16': {'0': 3}},
        },
        {'fraction': 0.6, 'seconds': 15.0, 'scores': {'t12': {'0': 2.5}, 't16': {'0': 2}}},
    ],
}


def test_the_truth():
    (truth,) = read_truth(results())
    assert (truth.student, truth.size, truth.seconds) == ('width 8', 8, 60.0)
    assert truth.scores['t6'] == {0: 69.0, 1: 71.0}
    assert truth.means == {'t6': 70.0, 't12': 74.0, 't16': 72.0}
    assert truth.teachers == {'t6': 80.0, 't12': 84.0, 't16': 86.0}
    assert (truth.regret('t6'), truth.regret('t12')) == (4.0, 0.0)
    assert next_size_up(truth) == 't12'


def test_the_ways_to_choose():
    (truth,) = read_truth(results())
    found = {c.way: (c.teacher, c.regret, c.cost) for c in choices(truth, SELECTION)}
    assert found == {
        'the most accurate': ('t16', 2.0, 0.0),
        'the next size up': ('t12', 0.0, 0.0),
        'random': ('', 2.0, 0.0),
        # six seconds before the race, then nine, then fifteen, of sixty
        'the same, after round 1': ('t16', 2.0, 0.25),
        'select_teacher.py': ('t12', 0.0, 0.5),
    }


def test_the_agreement():
    (truth,) = read_truth(results())
    assert agreement(truth, SELECTION) == {
        'score of the teacher': pytest.approx(1 / 3),
        'size of the teacher': pytest.approx(1 / 3),
        'CKA with a brief student': pytest.approx(-1 / 3),
        'calibration error, smaller is better': pytest.approx(1 / 3),
        'race, 0.2 of the schedule': pytest.approx(1 / 3),
    }


def test_the_report():
    text = report(read_truth(results()), {'width 8': SELECTION})
    assert '| t12 | 84.00 | 74.00 ± 1.41 | 2 |' in text
    assert 't12 minus t16: +2.00 [+2.00, +2.00], paired by seed.' in text
    assert '| select_teacher.py | t12 | 0.00 | 50 % |' in text
    assert '| random | the mean of all | 2.00 | 0 % |' in text
    assert report(read_truth(results()), {}) == '\n'
