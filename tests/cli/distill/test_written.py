from dataclasses import replace
from pathlib import Path

import pytest
from mmengine.config import Config

from dpk_mm.cli.distill.config_file import plain
from dpk_mm.cli.distill.plan import make_plan
from dpk_mm.cli.distill.request import Request
from dpk_mm.cli.distill.written import beside, check_written, distillation_text, network_text
from dpk_mm.errors import UsageError
from dpk_mm.models.pairing import Row
from tests.helpers.data_sets import write_coco


def written(tmp_path, **changes):
    """The three files of a plan, in a folder."""
    request = Request(
        'cascade-rcnn_r101_fpn_1x_coco',
        'rtmdet_tiny_8xb32-300e_coco',
        tmp_path / 'work',
        tmp_path / 'out' / 'distill.py',
        cuda=False,
    )
    plan = make_plan(replace(request, **changes))
    out = plan.request.out
    out.parent.mkdir(exist_ok=True)
    for role, network in (('student', plan.student), ('teacher', plan.teacher)):
        beside(out, role).write_text(network_text(network, role, out))
    out.write_text(distillation_text(plan))
    return plan


@pytest.fixture
def own(tmp_path):
    data = [str(write_coco(tmp_path / 'data'))]
    return written(
        tmp_path, data=data, train=True, train_teacher=True, img_size=128, from_scratch=True
    )


def test_the_files_say_what_was_planned(own):
    out = own.request.out
    for role, network in (('student', own.student), ('teacher', own.teacher)):
        check_written(beside(out, role), network.cfg)
    other = own.student.cfg.copy()
    other.train_cfg = dict(max_epochs=1)
    with pytest.raises(UsageError, match='train_cfg could not be written'):
        check_written(beside(out, 'student'), other)


def test_heads_in_lists_are_one_line_each(own):
    text = beside(own.request.out, 'teacher').read_text()
    assert 'model = _base_.model\n' in text or 'num_classes=2' in text
    assert "_base_ = 'mmdet::cascade_rcnn/cascade-rcnn_r101_fpn_1x_coco.py'" in text
    assert '# The teacher: cascade-rcnn_r101_fpn_1x_coco' in text
    assert 'test_dataloader = val_dataloader' in text


def test_the_distillation_is_short_and_can_be_moved(own, tmp_path):
    moved = tmp_path / 'elsewhere'
    own.request.out.parent.rename(moved)
    cfg = Config.fromfile(moved / 'distill.py')
    assert cfg.model.type == 'DPKDistill' and cfg.model.method == 'dpk_fgd'
    assert Path(cfg.model.teacher) == moved / 'distill_teacher.py'
    assert cfg.model.teacher_ckpt == own.teacher_ckpt
    assert cfg.model.architecture.bbox_head.num_classes == 2
    assert plain(cfg.train_cfg) == plain(own.student.cfg.train_cfg)
    code = [
        line
        for line in (moved / 'distill.py').read_text().splitlines()
        if line[:1] not in ('', '#')
    ]
    assert len(code) <= 16


def test_a_teacher_of_the_zoo_is_named(tmp_path):
    plan = written(tmp_path)
    cfg = Config.fromfile(plan.request.out)
    assert cfg.model.teacher == 'mmdet::cascade_rcnn/cascade-rcnn_r101_fpn_1x_coco.py'
    assert cfg.model.teacher_ckpt.startswith('https://')


def test_settings_weights_and_rows(own):
    own.algorithm.update(
        inherit=None,
        distiller=dict(distill_losses=dict(loss_dpk=dict(loss_weight=9.0, warmup=3))),
    )
    rows = [Row('records.feats', 'neck', 'found')]
    text = distillation_text(own, rows, dict(loss_dpk=2.5, loss_kd=1.5), 'measured.')
    assert '# loss_weight: measured.' in text and '#   records.feats  neck  found' in text
    own.request.out.write_text(text)
    losses = Config.fromfile(own.request.out).model.distiller.distill_losses
    # measured with what the user said, and scaled from there, as the comment says
    assert losses.loss_dpk == dict(loss_weight=2.5, warmup=3) and losses.loss_kd.loss_weight == 1.5
    given = own.algorithm['distiller']['distill_losses']['loss_dpk']
    assert given == dict(loss_weight=9.0, warmup=3)
    # without measured ones what the user said stands
    own.request.out.write_text(distillation_text(own, rows))
    assert Config.fromfile(own.request.out).model.distiller.distill_losses.loss_dpk == given


def test_a_config_of_ones_own_is_inherited_by_its_path(tmp_path):
    folder = tmp_path / 'mine'
    folder.mkdir()
    (folder / 'student.py').write_text("_base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'\n")
    plan = written(
        tmp_path, student=str(folder / 'student.py'), teacher='retinanet_r50_fpn_1x_coco'
    )
    assert "_base_ = '../mine/student.py'" in beside(plan.request.out, 'student').read_text()
    check_written(beside(plan.request.out, 'student'), plan.student.cfg)


@pytest.mark.parametrize(
    ('given', 'names', 'may_fail'),
    [
        ("dict(imports=['own_parts'], allow_failed_imports=True)", ['own_parts', 'dpk_mm'], True),
        ("dict(imports='dpk_mm')", ['dpk_mm'], False),
    ],
)
def test_code_of_the_student_is_imported(tmp_path, monkeypatch, given, names, may_fail):
    """mmengine replaces lists: the student's parts would not be known."""
    (tmp_path / 'own_parts.py').write_text('')
    monkeypatch.syspath_prepend(str(tmp_path))
    base = "_base_ = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'\n"
    (tmp_path / 'student.py').write_text(f'{base}custom_imports = {given}\n')
    student = str(tmp_path / 'student.py')
    plan = written(tmp_path, student=student, teacher='retinanet_r50_fpn_1x_coco')
    imports = Config.fromfile(plan.request.out).custom_imports
    assert (imports.imports, imports.allow_failed_imports) == (names, may_fail)


def test_a_teacher_is_tested_with_the_size_and_the_workers_that_were_asked_for(tmp_path):
    plan = written(tmp_path, img_size=320, workers=0, student='retinanet_r18_fpn_1x_coco')
    cfg = Config.fromfile(beside(plan.request.out, 'teacher'))
    assert cfg.test_dataloader.num_workers == 0
    assert min(cfg.test_dataloader.dataset.pipeline[1].scale) == 320
    assert Path(Config.fromfile(plan.request.out).model.teacher).name == 'distill_teacher.py'
