import pytest

from tools.experiments.blood_cells import student, teacher


def test_students_name_their_teacher():
    of_seed = {(w, s): teacher('retinanet', w, s)['name'] for w in (16, 32) for s in (0, 1)}
    assert len(set(of_seed.values())) == 4
    entry = student('retinanet', 'dpk', 2, lr=0.25, width=32, weight=0.5, teacher_seed=1)
    assert entry == dict(
        name='dpk-w32-s2',
        config='configs/experiments/bccd/retinanet_dpk.py',
        method='dpk',
        seed=2,
        teacher=of_seed[32, 1],
        setting={},
        options={
            'model.teacher.backbone.base_channels': 32,
            'model.teacher.neck.in_channels': [32, 64, 128, 256],
            'optim_wrapper.architecture.optimizer.lr': 0.25,
            'model.distiller.distill_losses.loss_feat.loss_weight': 0.5,
        },
    )


def test_the_baseline_has_no_teacher():
    entry = student('faster_rcnn', 'baseline', 2, lr=0.5, setting={'lr': 0.5})
    assert entry == dict(
        name='baseline-lr-0.5-s2',
        config='configs/experiments/bccd/faster_rcnn_alone.py',
        method='baseline',
        seed=2,
        setting={'lr': 0.5},
        options={'optim_wrapper.optimizer.lr': 0.5},
    )


def test_a_level_can_be_left_to_fgd():
    args = dict(detector='retinanet', method='dpk', seed=0, lr=0.1, width=16)
    whole, part = student(**args), student(**args, without_level='P3')
    key = 'model.distiller.distill_losses.loss_feat.transforms.P3'
    assert part['options'] == {**whole['options'], key: None}


def test_a_method_with_a_teacher_needs_its_width():
    with pytest.raises(ValueError, match="'fgd' has a teacher, so width must be given"):
        student('faster_rcnn', 'fgd', 0, lr=0.1)


def test_inheriting_can_be_left_out():
    args = dict(detector='retinanet', method='dpk', seed=0, lr=0.1, width=16)
    whole, none = student(**args), student(**args, inherit=False)
    assert none['options'].pop('model.inherit', 0) is None
    assert none == whole
