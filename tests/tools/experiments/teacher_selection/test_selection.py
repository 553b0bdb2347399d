import json

import pytest
from mmengine.config import Config

from dpk_mm.analysis.teacher_pass import TeacherPass
from dpk_mm.errors import UsageError
from tools.experiments.teacher_selection import passes, selection
from tools.experiments.teacher_selection.candidates import Candidate
from tools.experiments.teacher_selection.pages import markdown, table
from tools.experiments.teacher_selection.selection import read_selection, select

TEACHERS = {'small': 80.0, 'large': 90.0, 'sure': 85.0}
#: What students have of them after the whole schedule.
STUDENTS = {'small': 70.0, 'large': 60.0, 'sure': 71.0}


class FakeTrainer:
    """A training takes 100 s times its part of the schedule, and each student 1 point more for each seed."""

    calls: list

    def __init__(self, folder, metric, **options):
        self.folder = folder

    def train(self, configs, fraction, seed, keep_checkpoints=False):
        self.calls.append((list(configs), fraction, seed))
        return {
            name: {
                'score': STUDENTS.get(name, 50.0) + seed,
                'seconds': 100 * fraction,
                'folder': str(self.folder),
                'checkpoint': f'{name}/epoch_1.pth',
            }
            for name in configs
        }


@pytest.fixture
def stage(monkeypatch, tmp_path):
    """A student and three teachers that nothing is really built or trained of."""

    class Trainer(FakeTrainer):
        calls = []

    def measure(cfg, ckpt, images, device):
        assert ckpt.endswith('student/epoch_1.pth')
        score = {'accuracy/top1': TEACHERS[cfg.model.teacher.type]}
        return TeacherPass(score, images, 0.05, 1.5, 2_000_000, 8.0, None, {'a': 0.25, 'b': 0.75})

    misfits = {}
    monkeypatch.setattr(selection, 'Trainer', Trainer)
    monkeypatch.setattr(passes, 'measure_teacher', measure)
    monkeypatch.setattr(
        passes, 'why_it_does_not_fit', lambda cfg: misfits.get(cfg.model.teacher.type)
    )
    monkeypatch.setattr(selection, 'plain_training', lambda cfg: cfg)
    candidates = []
    for name in TEACHERS:
        path = tmp_path / f'{name}.py'
        path.write_text(f"model = dict(type='{name}')\ntrain_cfg = dict(max_epochs=8)\n")
        candidates.append(Candidate(name, str(path), 'x.pth'))
    student = Config(
        dict(
            model=dict(architecture=dict(type='S'), teacher=dict(type='T'), teacher_ckpt='y.pth'),
            train_cfg=dict(max_epochs=8),
            val_evaluator=dict(type='Accuracy'),
            data='old',
        )
    )

    def choose(budget=1000.0, **more):
        lines = []
        more.setdefault('fractions', (0.25, 0.5))
        found = select(student, candidates, tmp_path / 'work', budget, say=lines.append, **more)
        return found, lines

    return choose, Trainer.calls, misfits, tmp_path / 'work'


def test_the_teacher_whose_students_are_best(stage):
    choose, calls, _, folder = stage
    found, lines = choose(change=lambda cfg: cfg.update(data='new'))
    assert calls == [
        (['student'], 0.25, 0),
        *[(['large', 'sure', 'small'], 0.25, seed) for seed in (0, 1, 2)],
        *[(['sure', 'small'], 0.5, seed) for seed in (0, 1, 2)],
    ]
    assert found.order == ['large', 'sure', 'small']
    assert (found.best, found.verdict.sure) == ('sure', True)
    # 25 s of the student, nine times 25 and six times 50 of the race
    assert found.seconds == pytest.approx(25 + 9 * 25 + 6 * 50, abs=1)
    chosen = Config.fromfile(folder / 'chosen.py')
    assert (chosen.model.teacher.type, chosen.data) == ('sure', 'new')
    assert chosen.train_cfg.max_epochs == 8
    assert (folder / 'chosen.py').read_text().startswith('# sure is the best teacher')
    assert (folder / 'selection.png').stat().st_size > 5000
    written = read_selection(folder)
    assert written['best'] == 'sure'
    assert written['rounds'][1]['scores']['small'] == {'0': 70.0, '1': 71.0, '2': 72.0}
    assert 'large: accuracy/top1 90.00 on 500 images' in lines


def test_the_table(stage):
    choose, _, misfits, folder = stage
    misfits['small'] = 'other classes.'
    found, lines = choose()
    header, large, sure, small = table(found)
    assert header[-2:] == ['0.25 of the schedule', '0.5 of the schedule']
    assert large == [
        'large',
        '2 M',
        '90.00',
        '5.0',
        '1.50',
        '8.0',
        '0.50',
        '61.00 ± 1.00',
        '61.00 ± 1.00',
    ]
    assert small == ['small', 'does not fit', *['-'] * 7]
    text = (folder / 'selection.md').read_text()
    assert text == markdown(found)
    assert '- small does not fit: other classes.' in text
    assert 'small: does not fit: other classes.' in lines


def test_a_small_budget(stage):
    choose, calls, _, _ = stage
    # after 25 s of the student: 50 s a training are thought of, so two teachers; they take 25
    found, _ = choose(budget=135 / 60)
    assert calls[1:] == [(['large', 'sure'], 0.25, 0), (['large', 'sure'], 0.25, 1)]
    assert found.best == 'sure'
    assert found.notes == [
        '- Not in the race, for the budget: small, with the lowest scores.',
        '- The race was not finished, for the budget.',
    ]


def test_one_seed_cannot_tell(stage):
    found, _ = stage[0](seeds=(0,))
    assert (found.best, found.verdict.sure) == ('sure', False)
    assert found.sentence.startswith('Cannot tell sure from small')


def test_no_budget_for_a_race(stage):
    choose, calls, _, folder = stage
    found, _ = choose(budget=0.5)
    assert len(calls) == 1
    assert found.best == 'large'
    assert found.sentence.startswith('Cannot tell: the budget left no time for a race; large')
    assert json.loads((folder / 'selection.json').read_text())['verdict'] is None


def test_one_teacher_that_fits(stage):
    choose, _, misfits, _ = stage
    misfits.update(small='wrong.', large='wrong.')
    assert choose()[0].sentence == 'sure: the only teacher that fits.'


def test_no_teacher_that_fits_and_no_budget(stage):
    choose, calls, misfits, _ = stage
    misfits.update(small='other classes.', large='wrong.', sure='too wide.')
    with pytest.raises(UsageError, match='no teacher fits the student; small: other classes.'):
        choose()
    with pytest.raises(UsageError, match='--budget must be a number of minutes above 0'):
        choose(budget=0)
    assert not calls


def test_a_metric_that_is_not_there(stage):
    with pytest.raises(UsageError, match='--metric x, small: .* gave no x, only accuracy/top1'):
        stage[0](metric='x')


def test_a_detector_without_detections_has_score_0(stage, monkeypatch):
    """mmdet gives no box metrics at all of it."""
    found = dict(large={'coco/bbox_mAP': 0.25}, small={}, sure={'coco/bbox_mAP': 0.5})

    def measure(cfg, ckpt, images, device):
        return TeacherPass(found[cfg.model.teacher.type], images, None, 1.5, 2_000_000, 8.0, None)

    monkeypatch.setattr(passes, 'measure_teacher', measure)
    chosen, lines = stage[0](metric='coco/bbox_mAP')
    assert chosen.order == ['sure', 'large', 'small']
    assert [chosen.teacher_score(name) for name in chosen.order] == [50.0, 25.0, 0.0]
    assert 'small: coco/bbox_mAP 0.00 on 500 images' in lines


def test_a_metric_that_no_teacher_has(stage):
    with pytest.raises(UsageError, match='--metric coco/bbox_mAP: no teacher has it'):
        stage[0](metric='coco/bbox_mAP')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(budget=0.0), '--budget must be'),
        (dict(budget=float('nan')), '--budget must be'),
        (dict(images=3), '--images must be at least 4, but is 3'),
        (dict(seeds=(0, 1, 0)), '--seeds: 0 is there twice'),
        (dict(method='kd'), 'a distillation that says its losses itself'),
    ],
)
def test_what_is_refused_before_anything_is_trained(stage, arguments, message):
    choose, calls, _, _ = stage
    with pytest.raises(UsageError, match=message):
        choose(**arguments)
    assert calls == []


@pytest.mark.parametrize(
    ('evaluator', 'metric'),
    [
        (dict(type='mmpretrain.Accuracy'), 'accuracy/top1'),
        ([dict(type='SingleLabelMetric'), dict(type='Accuracy')], 'accuracy/top1'),
        (dict(type='CocoMetric'), 'coco/bbox_mAP'),
    ],
)
def test_the_metric_by_the_evaluator(evaluator, metric):
    assert selection._metric_of(Config(dict(val_evaluator=evaluator))) == metric
