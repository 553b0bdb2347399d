import random

import numpy as np
import pytest
import torch
from mmengine.config import Config
from torch import nn

from dpk_mm.analysis.feature_similarity import (
    StageSimilarity,
    Taps,
    image_loader,
    measure_similarity,
    recorded_modules,
    similarity,
)
from dpk_mm.errors import UsageError
from dpk_mm.models.teacher.resizing import TeacherResizing

from ..helpers.small_runs import Noise, build, classifier, distilled


def slow_cka(x, y):
    """Eq. 6 and 7 with whole Gram matrices, in float64."""

    def hsic(k, m):
        n = len(k)
        k, m = k - torch.diag(k.diag()), m - torch.diag(m.diag())
        one = torch.ones(n, dtype=k.dtype)
        value = (k @ m).trace() + one @ k @ one * (one @ m @ one) / ((n - 1) * (n - 2))
        return (value - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))

    x, y = x.double(), y.double()
    k, m = x @ x.T, y @ y.T
    return (hsic(k, m) / (hsic(k, k) * hsic(m, m)).sqrt()).item()


def features(channels, seed, n=8):
    return torch.randn(n, channels, 3, 2, generator=torch.Generator().manual_seed(seed))


class TestSimilarity:
    def test_cka_of_images_and_positions(self):
        student = features(4, 0)
        teacher = torch.cat([student, features(3, 1)], dim=1)
        of_images = slow_cka(student.flatten(1), teacher.flatten(1))
        assert similarity(student, teacher, 'cka') == pytest.approx(of_images, abs=1e-5)
        rows = [t.permute(0, 2, 3, 1).reshape(-1, t.shape[1]) for t in (student, teacher)]
        assert similarity(student, teacher, 'cka', 'positions') == pytest.approx(
            slow_cka(*rows), abs=1e-5
        )

    def test_cosine(self):
        student, teacher = features(4, 0), features(4, 1)
        expected = sum(
            (a @ b / (a.norm() * b.norm())).item()
            for s, t in zip(student, teacher, strict=True)
            for a, b in zip(s.flatten(1), t.flatten(1), strict=True)
        ) / (8 * 4)
        assert similarity(student, teacher, 'cosine') == pytest.approx(expected, abs=1e-6)

    def test_cosine_of_vectors(self):
        student, teacher = torch.eye(4), torch.ones(4, 4)
        assert similarity(student, teacher, 'cosine') == pytest.approx(0.5)

    def test_what_cannot_be_compared(self):
        with pytest.raises(UsageError, match=r'the student has \(4, 3, 2\) and the teacher \(5,'):
            similarity(features(4, 0), features(5, 0), 'cosine')
        with pytest.raises(UsageError, match='needs 4 samples in a batch, but one has 3'):
            similarity(features(4, 0, 3), features(5, 0, 3), 'cka')


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.ModuleList([nn.Linear(2, 3)])
        self.many = nn.Identity()

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.many((self.backbone[0](inputs), inputs, 'no tensor'))


class TestTaps:
    def test_a_stage_for_each_tensor(self):
        model = Two()
        taps = Taps(model, ['backbone.0', 'many'])
        x = torch.ones(1, 2)
        found = dict(taps.run(x))
        assert list(found) == ['backbone.0', 'many[0]', 'many[1]']
        assert torch.equal(found['many[0]'], model.backbone[0](x))
        assert torch.equal(found['many[1]'], x)
        taps.close()
        assert not model.many._forward_hooks

    def test_the_order_is_that_of_the_names(self):
        model = Two()
        model.backbone.append(nn.Linear(2, 4))  # is not run
        taps = Taps(model, ['many', 'backbone.0', 'many'])
        assert [name for name, _ in taps.run(torch.ones(1, 2))] == [
            *('many[0]', 'many[1]'),
            'backbone.0',
            *('many[0]', 'many[1]'),
        ]
        assert len(model.many._forward_hooks) == 1

    def test_an_unknown_module(self):
        with pytest.raises(UsageError, match='the teacher has no module man; did you mean many?'):
            Taps(Two(), ['man'], 'teacher')

    def test_a_module_that_is_not_run(self):
        with pytest.raises(UsageError, match='not each of the modules gives a tensor'):
            Taps(Two(), ['backbone']).run(torch.ones(1, 2))


@pytest.fixture(scope='module')
def pair(tmp_path_factory):
    """A config, and checkpoints of the teacher, of a student with its weights, and of one with others."""
    folder = tmp_path_factory.mktemp('pair')
    cfg = Config(
        dict(
            model=distilled(classifier(), classifier()),
            default_scope='mmpretrain',
            val_dataloader=dict(
                dataset=dict(type=Noise, size=21, boxes=False),
                batch_size=2,
                num_workers=1,
                persistent_workers=True,
                collate_fn=dict(type='default_collate'),
                sampler=dict(type='DefaultSampler', shuffle=True),
            ),
        )
    )
    files = {}
    for name, seed in (('teacher', 1), ('equal', 1), ('other', 2)):
        model = build(classifier())
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) / 4
        files[name] = folder / f'{name}.pth'
        torch.save({'state_dict': model.state_dict()}, files[name])
    return cfg, files


class TestMeasure:
    def test_a_student_with_the_teachers_weights(self, pair):
        cfg, files = pair
        students = {name: files[name] for name in ('equal', 'other')}
        found = measure_similarity(cfg, students, str(files['teacher']), batch_size=8)
        assert [(s.student, s.stage, len(s.values)) for s in found] == [
            ('equal', 'backbone[0]', 2),
            ('equal', 'backbone[1]', 2),
            ('other', 'backbone[0]', 2),
            ('other', 'backbone[1]', 2),
        ]
        assert [v for s in found[:2] for v in s.values] == pytest.approx([1.0] * 4, abs=1e-5)
        assert all(v < 0.99 for s in found[2:] for v in s.values)
        assert len({v for s in found[2:] for v in s.values}) == 4

    def test_the_cosine_the_number_of_batches_and_another_module(self, pair):
        cfg, files = pair
        found = measure_similarity(
            cfg,
            {'a': files['equal']},
            str(files['teacher']),
            metric='cosine',
            modules={'student': ['neck'], 'teacher': ['neck']},
            batches=3,
            batch_size=2,
        )
        assert [(s.stage, len(s.values)) for s in found] == [('neck[0]', 3), ('neck[1]', 3)]
        assert found[1].mean == pytest.approx(1.0, abs=1e-6)

    def test_modules_are_paired_as_they_are_named(self, pair):
        """Whichever is run first; the student has the teacher's weights."""
        cfg, files = pair
        modules = {
            'student': ['backbone.layer4', 'backbone.layer3', 'backbone.layer3'],
            'teacher': ['backbone.layer3', 'backbone.layer4', 'backbone.layer3'],
        }
        found = measure_similarity(
            cfg, {'a': files['equal']}, str(files['teacher']), modules=modules, batch_size=8
        )
        assert [s.stage for s in found] == [
            'backbone.layer4',
            'backbone.layer3=backbone.layer4',
            'backbone.layer3=backbone.layer3',
        ]
        assert found[0].mean == pytest.approx(found[1].mean, abs=1e-5)
        assert found[0].mean < 0.99
        assert found[2].mean == pytest.approx(1.0, abs=1e-5)

    def test_a_teacher_of_another_image_size(self, pair):
        cfg, files = pair
        cfg = Config(cfg.to_dict())
        cfg.model.teacher_input_size = 128
        (found,) = measure_similarity(
            cfg,
            {'a': files['equal']},
            str(files['teacher']),
            metric='cosine',
            modules={'student': ['backbone.layer3'], 'teacher': ['backbone.layer3']},
            batches=1,
            batch_size=4,
        )
        model = build(classifier()).eval()
        model.load_state_dict(torch.load(files['teacher'])['state_dict'])
        resizing = TeacherResizing(128)
        with torch.no_grad():
            batch = next(iter(image_loader(cfg, 'val', 4)))
            inputs = batch['inputs'].flip(1).float() / 255
            own = model.backbone(inputs)[0]
            theirs = resizing.back(model.backbone(resizing.images(inputs))[0], inputs.shape[-2:])
        assert own.shape == theirs.shape
        assert found.mean == pytest.approx(similarity(own, theirs, 'cosine'), abs=1e-5)
        assert found.mean < 0.99

    @pytest.mark.parametrize(
        ('arguments', 'message'),
        [
            (dict(metric='mse'), "the metric must be one of cka, cosine, but is 'mse'"),
            (dict(part='all'), 'the part must be one of train, val, test'),
            (dict(samples='pixels'), 'the kind of samples must be one of images, positions'),
            (dict(batches=0), 'found 1 students, 0 batches of 32'),
            (dict(batch_size=22), 'the val part has less than 22 images'),
            (dict(part='train'), 'the config has no train_dataloader'),
            (dict(teacher_ckpt=None), 'the teacher has no checkpoint: give it with --teacher-ckpt'),
        ],
    )
    def test_bad_arguments(self, pair, arguments, message):
        cfg, files = pair
        given = {'teacher_ckpt': str(files['teacher']), **arguments}
        with pytest.raises(UsageError, match=message):
            measure_similarity(cfg, {'a': files['equal']}, **given)

    def test_a_plain_config(self, pair):
        cfg = Config(dict(model=classifier()))
        with pytest.raises(UsageError, match='has no teacher: give the config of a distillation'):
            measure_similarity(cfg, {'a': pair[1]['equal']})


def test_the_modules_of_a_config():
    def modules(**records):
        return recorded_modules(Config(dict(model=dict(distiller=dict(records=records)))))

    assert modules(feats='neck') == {'student': ['neck'], 'teacher': ['neck']}
    assert modules(feats=dict(student='a', teacher=['b', 'c'])) == {
        'student': ['a'],
        'teacher': ['b', 'c'],
    }
    assert modules(logits='head.fc') == {'student': ['backbone'], 'teacher': ['backbone']}


def test_the_loader_shuffles_the_images_in_the_same_way_each_time(pair):
    loader = image_loader(pair[0], 'val', 10)
    assert loader.num_workers == 0
    expected = torch.randperm(21, generator=torch.Generator().manual_seed(0)).tolist()
    for again in (loader, loader, image_loader(pair[0], 'val', 10)):
        batches = [[int(s.gt_label) for s in batch['data_samples']] for batch in again]
        # labels of the data set are 0 1 2 3 4 0 1 ...; the last image has no whole batch
        assert batches == [[i % 5 for i in expected[:10]], [i % 5 for i in expected[10:20]]]


class Augmented(Noise):
    """Images that are darkened by Python's, numpy's and torch's random numbers."""

    def __getitem__(self, index):
        item = super().__getitem__(index)
        for share in (random.random(), np.random.rand(), torch.rand(()).item()):
            item['inputs'] = (item['inputs'] * share).to(torch.uint8)
        return item


def test_all_students_see_the_same_augmentations(pair):
    cfg, files = pair
    cfg = Config(cfg.to_dict())
    cfg.train_dataloader = dict(cfg.val_dataloader)
    cfg.train_dataloader.dataset = dict(type=Augmented, size=21, boxes=False)

    before = random.getstate(), np.random.get_state()[1].tolist()
    students = dict.fromkeys('ab', files['other'])
    found = measure_similarity(cfg, students, str(files['teacher']), part='train', batch_size=8)
    assert [s.student for s in found] == ['a', 'a', 'b', 'b']
    assert found[0].values == found[2].values and found[1].values == found[3].values
    assert found[0].values[0] != found[0].values[1]
    # as if nothing had been drawn
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_a_student_whose_features_are_not_finite_is_named(pair, tmp_path):
    cfg, files = pair
    weights = torch.load(files['other'])['state_dict']
    name = next(key for key in weights if key.startswith('backbone.layer4') and 'conv1' in key)
    weights[name] = torch.full_like(weights[name], float('nan'))
    torch.save({'state_dict': weights}, tmp_path / 'broken.pth')
    students = {'good': files['other'], 'broken': tmp_path / 'broken.pth'}
    wanted = r'student broken, stage backbone\[1\]: the similarity of batch 1 is nan'
    with pytest.raises(UsageError, match=wanted):
        measure_similarity(cfg, students, str(files['teacher']), batch_size=8)


def test_mean_and_ranks():
    found = StageSimilarity('a', 'b', [0.5, 0.75, 0.25])
    assert (found.mean, found.ranked) == (0.5, [0.75, 0.5, 0.25])
