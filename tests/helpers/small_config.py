"""A distillation config of a few lines, for the tests of what the tools do to a config."""

from __future__ import annotations

from pathlib import Path

TEXT = """\
model = dict(type='Student', architecture=dict(type='A'), teacher=dict(type='B'),
    teacher_ckpt='old.pth')
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.02))
auto_scale_lr = dict(base_batch_size=16, enable=False)
train_pipeline = [dict(type='Load', size=3)]
train_dataloader = dict(batch_size=1, dataset=dict(pipeline=train_pipeline))
test_dataloader = dict(batch_size=1)
load_from = 'weights.pth'
"""


def write_small_config(folder: Path) -> str:
    """Writes it as ``my_config.py``, and returns its path."""
    path = folder / 'my_config.py'
    path.write_text(TEXT)
    return str(path)
