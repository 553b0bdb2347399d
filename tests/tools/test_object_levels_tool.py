import json
import runpy
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_command_prints_and_writes_the_shares(tmp_path, monkeypatch, capsys):
    from tests.helpers.data_sets import write_coco

    data = write_coco(tmp_path / 'data')
    out = tmp_path / 'levels.json'
    monkeypatch.chdir(ROOT)
    options = {
        'train_dataloader.dataset.data_root': data,
        'train_dataloader.dataset.ann_file': 'annotations/train.json',
        'train_dataloader.dataset.data_prefix.img': 'images/',
        'train_dataloader.dataset.metainfo.classes': '("cat","dog")',
    }
    arguments = ['configs/mini/faster_rcnn_dpk.py', '--out', str(out), '--cfg-options']
    arguments += [f'{key}={value}' for key, value in options.items()]
    monkeypatch.setattr(sys, 'argv', ['object_levels.py', *arguments])
    runpy.run_path(str(ROOT / 'tools/analysis/object_levels.py'), run_name='__main__')
    printed = capsys.readouterr().out
    found = json.loads(out.read_text())
    assert (found['images'], found['boxes']) == (4, 4)
    assert sum(found['shares']['anchors'].values()) == 1
    total = sum(found['shares']['second stage'].get(str(s), 0) for s in found['dpk'].values())
    assert '4 boxes of 4 training images, by level' in printed
    assert f"DPK's levels hold {total:.0%} of the boxes by second stage." in printed
