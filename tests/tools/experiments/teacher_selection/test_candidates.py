import copy
from pathlib import Path

import pytest
from mmengine.config import Config

from dpk_mm.analysis.loading import build_model
from dpk_mm.errors import UsageError
from tools.experiments.teacher_selection.candidates import (
    Candidate,
    pair_config,
    parse_candidates,
    plain_training,
    set_data,
)

MINI = Path(__file__).parents[4] / 'configs' / 'mini'


class TestParse:
    @pytest.fixture(autouse=True)
    def files(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        for name in ('a/x.pth', 'b/x.pth', 'c/r34.py', 'c/r50.py', 'r.py', 's.py', 'd/r.py'):
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).touch()

    def test_forms(self):
        assert parse_candidates(
            ['c/r34.py:a/x.pth', 'wide=c/r50.py=b/x.pth', 'mmdet::r/r101.py:https://h/x.pth']
        ) == [
            Candidate('r34', 'c/r34.py', 'a/x.pth'),
            Candidate('wide', 'c/r50.py', 'b/x.pth'),
            Candidate('r101', 'mmdet::r/r101.py', 'https://h/x.pth'),
        ]

    def test_one_config_with_two_checkpoints_is_named_by_their_folders(self):
        found = parse_candidates(['r.py:a/x.pth', 'r.py:b/x.pth', 's.py'])
        assert [(c.name, c.checkpoint) for c in found] == [
            ('a', 'a/x.pth'),
            ('b', 'b/x.pth'),
            ('s', None),
        ]

    @pytest.mark.parametrize(
        ('texts', 'message'),
        [
            (['r.py:a/x.pth'], 'give at least two'),
            (
                ['r.py:a/x.pth', 'r.pth'],
                r'--teachers r.pth: expected \[NAME=\]CONFIG.py:CHECKPOINT',
            ),
            (['r.py:a/x.pth', 's.py:c/x.pth'], 'there is no checkpoint c/x.pth'),
            (['r.py:a/x.pth', 't.py:a/x.pth'], 'there is no config t.py'),
            (['r.py:a/x.pth', 'student=s.py:b/x.pth'], 'student is the name of the training of'),
            (['r.py:a/x.pth', 'd/r.py'], 'two are called r; give them names'),
        ],
    )
    def test_what_is_refused(self, texts, message):
        if message.startswith('two'):
            texts = ['r=r.py:a/x.pth', 'r=s.py:b/x.pth']
        with pytest.raises(UsageError, match=message):
            parse_candidates(texts)


@pytest.fixture
def teacher(tmp_path):
    """A plain config of another teacher, twelve channels wide."""
    path = tmp_path / 'teacher.py'
    path.write_text(
        f"_base_ = '{MINI}/fashion_cnn_teacher.py'\n"
        'model = dict(backbone=dict(stem_channels=12, base_channels=12), head=dict(in_channels=96))\n'
    )
    return Candidate('w12', str(path), 'teacher.pth')


class TestPair:
    def test_the_teacher_of_a_distillation_is_replaced(self, teacher):
        student = Config.fromfile(MINI / 'fashion_cnn_kd.py')
        cfg = pair_config(student, teacher)
        assert cfg.model.teacher.backbone.base_channels == 12
        assert Path(cfg.model.teacher_ckpt).is_absolute()
        assert student.model.teacher.backbone.base_channels == 16
        assert cfg.model.architecture == student.model.architecture
        assert build_model(cfg).teacher.head.fc.in_features == 96

    def test_a_whole_distillation_is_taken_as_it_is(self, tmp_path):
        student = Config.fromfile(MINI / 'fashion_cnn_kd.py')
        whole = Candidate('dpk', str(MINI / 'fashion_cnn_dpk.py'), 'x.pth')
        cfg = pair_config(student, whole)
        assert list(cfg.model.distiller.distill_losses) == ['loss_kd', 'loss_dpk']
        with pytest.raises(UsageError, match='fashion_vit_kd.py is a distillation of another'):
            pair_config(student, Candidate('vit', str(MINI / 'fashion_vit_kd.py'), 'x.pth'))

    def test_a_distillation_fits_the_plain_student_that_it_is_of(self):
        plain = Config.fromfile(MINI / 'fashion_cnn_none.py')
        whole = Candidate('dpk', str(MINI / 'fashion_cnn_dpk.py'), 'x.pth')
        cfg = pair_config(plain, whole)
        assert list(cfg.model.distiller.distill_losses) == ['loss_kd', 'loss_dpk']
        with pytest.raises(UsageError, match='says its losses itself: leave --method out'):
            pair_config(plain, whole, 'kd')
        with pytest.raises(UsageError, match='fashion_vit_kd.py is a distillation of another'):
            pair_config(plain, Candidate('vit', str(MINI / 'fashion_vit_kd.py'), 'x.pth'))

    def test_options_reach_a_distillation_too_and_trainings_are_equal(self):
        plain = Config.fromfile(MINI / 'fashion_cnn_none.py')
        whole = Candidate('dpk', str(MINI / 'fashion_cnn_dpk.py'), 'x.pth')
        for option in ('train_cfg.max_epochs', 'train_dataloader.batch_size'):
            changed = copy.deepcopy(plain)
            changed.merge_from_dict({option: 3})
            with pytest.raises(UsageError, match=rf'{option}=\d+, but STUDENT 3'):
                pair_config(changed, whole)
            cfg = pair_config(changed, whole, options={option: 3})
            first, second = option.split('.')
            assert cfg[first][second] == 3

    def test_what_is_missing(self, teacher):
        plain = Config.fromfile(MINI / 'fashion_cnn_none.py')
        with pytest.raises(UsageError, match='say with --method'):
            pair_config(plain, teacher)
        student = Config.fromfile(MINI / 'fashion_cnn_kd.py')
        student.model.teacher_ckpt = None
        with pytest.raises(UsageError, match='w12 has no checkpoint'):
            pair_config(student, Candidate('w12', teacher.config, None))
        with pytest.raises(UsageError, match='needs a plain student and --method'):
            pair_config(student, Candidate('z', 'mmpretrain::resnet/resnet34_8xb32_in1k.py', None))


class TestShort:
    @pytest.fixture
    def short(self):
        plain = Config.fromfile(MINI / 'fashion_cnn_none.py')
        teacher = str(MINI / 'fashion_cnn_teacher.py')
        short = dict(
            architecture=plain.model, teacher=teacher, method='kd+dpk', input_size=(28, 28)
        )
        plain.model = dict(type='DPKDistill', _scope_='mmrazor', teacher_ckpt='old.pth', **short)
        return plain

    def test_it_is_completed_with_each_teacher(self, short, teacher):
        for candidate, width in (
            (teacher, 96),
            (Candidate('m', short.model.teacher, 'm.pth'), 128),
        ):
            cfg = pair_config(short, candidate)
            stage = cfg.model.distiller.distill_losses.loss_dpk.transforms.last
            assert stage.teacher_channels == width == cfg.model.teacher.head.in_channels
            assert Path(cfg.model.teacher_ckpt).name == candidate.checkpoint
        assert list(pair_config(short, teacher, 'dkd').model.distiller.distill_losses) == [
            'loss_dkd'
        ]

    def test_a_checkpoint_is_that_of_its_own_network(self, short, teacher):
        same = pair_config(short, Candidate('m', short.model.teacher, None))
        assert Path(same.model.teacher_ckpt).name == 'old.pth'
        with pytest.raises(UsageError, match='teacher_ckpt is missing'):
            pair_config(short, Candidate('w12', teacher.config, None))


def test_the_checkpoint_of_a_distillation_is_not_that_of_another_teacher(teacher):
    student = Config.fromfile(MINI / 'fashion_cnn_kd.py')
    student.model.teacher_ckpt = 'old.pth'
    own = Candidate('m', str(MINI / 'fashion_cnn_teacher.py'), None)
    assert Path(pair_config(student, own).model.teacher_ckpt).name == 'old.pth'
    with pytest.raises(UsageError, match='w12 has no checkpoint'):
        pair_config(student, Candidate('w12', teacher.config, None))


def test_the_student_alone_has_its_own_optimizer():
    cfg = plain_training(Config.fromfile(MINI / 'fashion_cnn_dpk.py'))
    assert cfg.model.type == 'ImageClassifier'
    alone = Config.fromfile(MINI / 'fashion_cnn_none.py')
    assert cfg.optim_wrapper.optimizer == alone.optim_wrapper.optimizer
    assert not {'constructor', 'architecture', 'distiller'} & set(cfg.optim_wrapper)


def test_the_folder_of_the_data(tmp_path):
    cfg = Config(
        dict(
            train_dataloader=dict(dataset=dict(type='RepeatDataset', dataset=dict(data_root='d/'))),
            val_dataloader=dict(dataset=dict(data_root='d/', ann_file='a.json')),
            val_evaluator=[dict(ann_file='d/a.json'), dict(ann_file='elsewhere.json')],
        )
    )
    set_data(cfg, str(tmp_path))
    root = f'{tmp_path}/'
    assert cfg.train_dataloader.dataset.dataset.data_root == root
    assert cfg.val_dataloader.dataset == dict(data_root=root, ann_file='a.json')
    assert [e.ann_file for e in cfg.val_evaluator] == [f'{root}a.json', 'elsewhere.json']
    with pytest.raises(UsageError, match='--data: there is no folder'):
        set_data(cfg, str(tmp_path / 'none'))
