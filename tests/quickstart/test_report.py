import json

import pytest

from dpk_mm.quickstart.plan import ROLES, Plan
from dpk_mm.quickstart.report import draw_pictures, last_checkpoint, read_metrics


def write_metrics(test_dir, stamp, content):
    (test_dir / stamp / 'vis_data').mkdir(parents=True)
    (test_dir / stamp / f'{stamp}.json').write_text(json.dumps(content))
    (test_dir / stamp / 'vis_data' / 'other.json').write_text('{}')


def test_newest_metrics(tmp_path):
    write_metrics(tmp_path, '20260101_000000', {'coco/bbox_mAP': 0.1, 'coco/bbox_mAP_50': 0.2})
    write_metrics(tmp_path, '20260102_000000', {'coco/bbox_mAP': 0.3, 'coco/bbox_mAP_50': 0.4})
    (tmp_path / '20260103_000000').mkdir()  # a test that did not end
    assert read_metrics(tmp_path) == {'mAP': 0.3, 'AP50': 0.4}


def test_no_detection_at_all_scores_nothing(tmp_path):
    write_metrics(tmp_path, 'a', {'time': 1.0})
    assert read_metrics(tmp_path) == {'mAP': 0.0, 'AP50': 0.0}


def test_no_metrics(tmp_path):
    with pytest.raises(FileNotFoundError, match='wrote no metrics'):
        read_metrics(tmp_path)


def test_last_checkpoint(tmp_path):
    assert last_checkpoint(tmp_path) is None
    checkpoint = tmp_path / 'epoch_2.pth'
    (tmp_path / 'last_checkpoint').write_text(str(checkpoint))
    assert last_checkpoint(tmp_path) is None  # named, but gone
    checkpoint.write_text('')
    assert last_checkpoint(tmp_path) == str(checkpoint)


def test_pictures_are_drawn_from_the_runs(tmp_path, monkeypatch):
    plan = Plan(root=tmp_path, work_dir=tmp_path / 'out')
    for role in ROLES:
        folder = plan.train_dir(role) / 'stamp' / 'vis_data'
        folder.mkdir(parents=True)
        record = {'iter': 10, 'loss': 2.0, 'mask_ratio/P4': 0.5, 'similarity/P4': 0.5}
        (folder / 'scalars.json').write_text(json.dumps(record) + '\n')
    asked = []
    monkeypatch.setattr(
        'dpk_mm.quickstart.report.show_detections', lambda *args, **kwargs: asked.append(args)
    )
    pictures = draw_pictures(plan, {role: f'{role}.pth' for role in ROLES})
    assert [path.name for path in pictures] == [
        'faster_rcnn_mask_ratio.png',
        'faster_rcnn_losses.png',
        'faster_rcnn_detections.png',
    ]
    assert pictures[0].is_file() and pictures[1].is_file()
    ((models, ann_file, image_dir, out),) = asked
    assert list(models) == ['teacher', 'student alone', 'FGD', 'DPK + FGD']
    config = tmp_path / 'configs' / 'mini' / 'faster_rcnn_dpk.py'
    assert models['DPK + FGD'] == (config, 'dpk.pth')
    assert ann_file == tmp_path / 'data' / 'shapes' / 'annotations' / 'val.json'
    assert (image_dir, out) == (tmp_path / 'data' / 'shapes' / 'val', pictures[2])
