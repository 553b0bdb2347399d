"""What the algorithm does not have is the student's, for reading and for setting."""

import copy
import pickle

import pytest
import torch
from torch import nn

from dpk_mm.models.algorithms.student_attributes import StudentAttributes
from tests.helpers.small_runs import build, classifier, distilled, yolox


@pytest.fixture(scope='module')
def model():
    return build(distilled(yolox(8), yolox(16)))


def test_reading_and_setting_reach_the_student(model):
    assert model.bbox_head is model.architecture.bbox_head
    assert model.with_neck is True
    model.bbox_head.use_l1 = True
    assert model.architecture.bbox_head.use_l1 is True
    model.architecture.factor = 1.0
    model.factor = 0.5
    assert model.architecture.factor == 0.5 and 'factor' not in model.__dict__
    head = nn.Identity()
    old, model.bbox_head = model.bbox_head, head
    assert model.architecture.bbox_head is head
    assert 'bbox_head' not in dict(model.named_children())
    model.bbox_head = old


def test_the_algorithm_keeps_its_own(model):
    model.calculate_student_loss = True
    model.something_new = 1
    assert 'something_new' in model.__dict__ and not hasattr(model.architecture, 'something_new')
    parse = model.parse_losses
    model.parse_losses = parse  # a method that is replaced, as hooks do
    assert 'parse_losses' not in model.architecture.__dict__
    del model.parse_losses
    assert model.data_preprocessor is model.architecture.data_preprocessor
    names = {name for name, _ in model.named_parameters()}
    assert all(name.startswith(('architecture.', 'distiller.')) for name in names)


def test_names_are_not_forwarded_that_ask_for_a_wrapper(model):
    model.architecture.module = nn.Identity()
    assert not hasattr(model, 'module')
    del model.architecture.module
    model.architecture._private = 1
    assert not hasattr(model, '_private')


def test_an_unknown_name_is_an_attribute_error_of_both(model):
    assert not hasattr(model, 'roi_head')
    with pytest.raises(AttributeError, match='DPKDistill has no attribute .roi_head., and neither'):
        model.roi_head  # noqa: B018
    with pytest.raises(AttributeError, match='a YOLOX'):
        model.set_epoch(1)


def test_nothing_is_there_before_the_constructor(model):
    empty = StudentAttributes.__new__(StudentAttributes)
    assert not hasattr(empty, 'bbox_head')
    with pytest.raises(AttributeError):
        StudentAttributes().bbox_head  # noqa: B018


def test_copies_and_pickles_forward_to_their_own_student():
    model = build(distilled(classifier(), classifier(16)))
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert other.head is other.architecture.head and other.head is not model.head
        other.architecture.factor = 1
        other.factor = 2
        assert other.architecture.factor == 2 and not hasattr(model, 'factor')


def test_a_replaced_preprocessor_is_the_students_and_the_teachers_source():
    model = build(distilled(classifier(), classifier(16)))
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(model.teacher_input(images), images)
    other = build(classifier()).data_preprocessor
    other.std = other.std / 255  # pixels are not scaled any more
    model.data_preprocessor = other
    assert model.architecture.data_preprocessor is other
    torch.testing.assert_close(model.teacher_input(images), images / 255)
