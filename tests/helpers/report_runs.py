"""Work folders of trainings that were never run, for the report page."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

# one grey pixel
PICTURE = 'data:image/gif;base64,R0lGODlhAQABAIAAAICAgAAAACH5BAAAAAAALAAAAAABAAEAAAICRAEAOw=='


def distillation(**kwargs: Any) -> dict[str, Any]:
    """The record of a distillation of detectors."""
    record = dict(
        version=1,
        command='python tools/train.py configs/mini/faster_rcnn_dpk.py',
        finished='2026-01-31 12:00',
        seconds=125.0,
        first_iteration=0,
        iterations=60,
        epochs=3,
        by_epoch=True,
        metric='coco/bbox_mAP',
        models=[
            dict(
                role='teacher',
                type='FasterRCNN',
                parameters=4_000_000,
                speed=dict(milliseconds=40.0, images=10),
                metrics={'coco/bbox_mAP': 0.32, 'coco/bbox_mAP_50': 0.55},
                checkpoint='work_dirs/teacher/epoch_8.pth',
            ),
            dict(
                role='student',
                type='FasterRCNN',
                parameters=1_000_000,
                speed=dict(milliseconds=12.5, images=10),
            ),
        ],
        alarms=[],
        examples=dict(
            kind='detections',
            picture=PICTURE,
            counts={'ground truth': [3, 1], 'teacher': [3, 2], 'student': [2, 0]},
            score=0.3,
        ),
        missing=[],
        environment=[['device', 'CPU: a <fast> one, 2 cores'], ['seed', '0']],
    )
    return {**record, **kwargs}


def plain(**kwargs: Any) -> dict[str, Any]:
    """The record of a training without a teacher."""
    model = dict(role='model', type='FasterRCNN', parameters=1_000_000)
    return distillation(models=[model], examples=None, **kwargs)


def write_run(
    folder: Path,
    record: dict[str, Any] | None,
    metrics: tuple[float, ...] = (0.1, 0.25, 0.2),
    distils: bool = True,
    config: str | None = 'lr = 0.01  # <rate>\n',
) -> Path:
    """Writes a work folder with a log of 60 iterations, 3 validations and the record."""
    logs = folder / 'stamp' / 'vis_data'
    logs.mkdir(parents=True)
    lines = []
    for step in range(1, 61):
        line = {'iter': step, 'epoch': 1 + step // 21, 'loss': 3.0 - step / 60, 'lr': 0.01}
        if distils:
            line.update(
                {
                    'student.loss_cls': 1.0 - step / 120,
                    'distill.loss_dpk': 2.0 - step / 120,
                    'mask_ratio/P4': 0.5,
                    'mask_ratio/P5': 0.25,
                    'similarity/P4': 0.5,
                    'similarity/P5': 0.75,
                    'gradient_share/distill': 2.0,
                }
            )
        lines.append(line)
    for epoch, value in enumerate(metrics, 1):
        lines.append({'step': epoch, 'coco/bbox_mAP': value, 'time': 0.1, 'data_time': 0.01})
    (logs / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)) + '\n')
    if record is not None:
        (folder / 'report.json').write_text(json.dumps(record))
    if config is not None:
        (folder / 'config.py').write_text(config)
    return folder


class Page(HTMLParser):
    """What stands in a page; raises if its elements are not closed in order.

    Attributes:
        elements: Tag and attributes of each element, in order.
        texts: Text by the tag that it is in.
    """

    VOID = ('meta', 'img', 'br', 'link', 'input', 'path', 'use')

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and self._open:
            self.texts.setdefault(self._open[-1], []).append(' '.join(data.split()))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of a tag."""
        return [attributes for name, attributes in self.elements if name == tag]
