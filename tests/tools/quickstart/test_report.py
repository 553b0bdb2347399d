import json

from tools.quickstart.plan import ROLES, Plan
from tools.quickstart.report import describe_device, draw_pictures


def test_pictures_are_drawn_from_the_runs(tmp_path, monkeypatch):
    plan = Plan(root=tmp_path, work_dir=tmp_path / 'out')
    for role in ROLES:
        folder = plan.train_dir(role) / 'stamp' / 'vis_data'
        folder.mkdir(parents=True)
        record = {'iter': 10, 'loss': 2.0, 'mask_ratio/P4': 0.5, 'similarity/P4': 0.5}
        (folder / 'scalars.json').write_text(json.dumps(record) + '\n')
    asked = []
    monkeypatch.setattr(
        'tools.quickstart.report.show_detections', lambda *args, **kwargs: asked.append(args)
    )
    pictures = draw_pictures(plan, {role: f'{role}.pth' for role in ROLES})
    assert [path.name for path in pictures] == [
        'faster_rcnn_mask_ratio.png',
        'faster_rcnn_losses.png',
        'faster_rcnn_detections.png',
    ]
    assert pictures[0].is_file() and pictures[1].is_file()
    ((models, ann_file, image_dir, out),) = asked
    assert list(models) == ['teacher', 'student baseline', 'FGD', 'DPK + FGD']
    config = tmp_path / 'configs' / 'mini' / 'faster_rcnn_dpk.py'
    assert models['DPK + FGD'] == (config, 'dpk.pth')
    assert ann_file == tmp_path / 'data' / 'shapes' / 'annotations' / 'val.json'
    assert (image_dir, out) == (tmp_path / 'data' / 'shapes' / 'val', pictures[2])


def test_the_device_is_described_with_the_threads_of_the_trainings(monkeypatch):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    assert describe_device() == 'CPU, 1 thread'
    monkeypatch.setenv('OMP_NUM_THREADS', '2')
    assert describe_device() == 'CPU, 2 threads'
