import pytest
from mmengine.config import Config

from dpk_mm.errors import UsageError
from tools.experiments.runner import Summary
from tools.experiments.teacher_selection import race as module
from tools.experiments.teacher_selection.race import Trainer, entrants, run_race


class FakeTrainer:
    """Trains in no time: scores by teacher, seconds by the part of the schedule."""

    def __init__(self, scores, seconds=100.0):
        self.scores, self.seconds, self.calls, self.spent = scores, seconds, [], 0.0

    def train(self, configs, fraction, seed):
        self.calls.append((list(configs), fraction, seed))
        self.spent += self.seconds * fraction * len(configs)
        return {
            name: {'score': self.scores[name] + seed, 'seconds': self.seconds * fraction}
            for name in configs
        }


@pytest.mark.parametrize(
    ('reason', 'message'),
    [
        ('a: the evaluation gave no b, only c', '^a: the evaluation gave no b, only c$'),
        ('a: training ended. The last lines of x.log:', 'training of a failed; .*ends with: boom'),
        (None, '^the training of a failed.$'),
    ],
)
def test_a_failure_says_what_is_wrong(tmp_path, monkeypatch, reason, message):
    class Runner:
        def __init__(self, *args, **kwargs):
            pass

        def run(self):
            return Summary(failed=['a'], reasons={} if reason is None else {'a': reason})

    monkeypatch.setattr(module, 'GridRunner', Runner)
    monkeypatch.setattr(module, 'last_lines', lambda log: ['boom'])
    cfg = Config(dict(model=dict(), train_cfg=dict(max_epochs=4)))
    with pytest.raises(UsageError, match=message):
        Trainer(tmp_path, 'b').train({'a': cfg}, 0.5, 0)


SCORES = {'a': 50.0, 'b': 60.0, 'c': 55.0, 'd': 40.0, 'e': 45.0}


def race(trainer, budget=1e9, seeds=(0, 1), fractions=(0.25, 0.5), of_one=100.0):
    return run_race(
        dict.fromkeys(SCORES), trainer, fractions, seeds, lambda: budget - trainer.spent, of_one
    )


def test_half_of_the_teachers_go_on():
    trainer = FakeTrainer(SCORES)
    first, second = race(trainer)
    assert trainer.calls == [
        (['a', 'b', 'c', 'd', 'e'], 0.25, 0),
        (['a', 'b', 'c', 'd', 'e'], 0.25, 1),
        (['b', 'c', 'a'], 0.5, 0),
        (['b', 'c', 'a'], 0.5, 1),
    ]
    assert first.scores['d'] == {0: 40.0, 1: 41.0}
    assert second.scores == {
        'b': {0: 60.0, 1: 61.0},
        'c': {0: 55.0, 1: 56.0},
        'a': {0: 50.0, 1: 51.0},
    }
    assert (first.seconds, second.seconds) == (250.0, 300.0)
    assert first.whole and second.whole


@pytest.mark.parametrize(
    ('budget', 'calls', 'rounds', 'whole'),
    [
        (124.0, 0, 0, []),
        (125.0, 1, 1, [False]),
        (250.0, 2, 1, [True]),
        (401.0, 3, 2, [True, False]),
    ],
)
def test_no_seed_is_begun_that_the_budget_has_no_time_for(budget, calls, rounds, whole):
    trainer = FakeTrainer(SCORES)
    found = race(trainer, budget)
    assert (len(trainer.calls), len(found)) == (calls, rounds)
    assert [r.whole for r in found] == whole
    assert trainer.spent <= budget


def test_the_time_that_trainings_take_is_learnt():
    # thought to take 10 s, they take 100: the second seed would not end in time
    trainer = FakeTrainer(SCORES)
    assert len(race(trainer, 200.0, of_one=10.0)) == 1
    assert len(trainer.calls) == 1


def test_as_many_teachers_as_there_is_time_for():
    names = list('abcde')
    # five: (5 + 3 * 2) / 4 of a schedule a seed; four: (4 + 2 * 2) / 4; three: (3 + 2 * 2) / 4
    assert entrants(names, (0.25, 0.5), 2, 2 * 275.0, 100.0) == names
    assert entrants(names, (0.25, 0.5), 2, 2 * 274.0, 100.0) == names[:4]
    assert entrants(names, (0.25, 0.5), 2, 2 * 175.0, 100.0) == names[:3]
    assert entrants(names, (0.25, 0.5), 2, 0.0, 100.0) == names[:2]
    assert entrants(['a'], (0.25, 0.5), 2, 0.0, 100.0) == ['a']


@pytest.mark.parametrize(('metric', 'score'), [('pascal_voc/mAP', 78.0), ('accuracy/top1', 0.78)])
def test_scores_are_in_percent(tmp_path, monkeypatch, metric, score):
    class Runner:
        def __init__(self, *args, **kwargs):
            self.results = {'a': {'metrics': {'val': {metric: 0.78}}}}

        def run(self):
            return Summary(done=['a'])

    monkeypatch.setattr(module, 'GridRunner', Runner)
    cfg = Config(dict(model=dict(), train_cfg=dict(max_epochs=4)))
    found = Trainer(tmp_path, metric).train({'a': cfg}, 0.5, 0)
    assert found['a']['score'] == pytest.approx(score)
