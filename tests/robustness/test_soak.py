"""A long run: nothing may grow.

A mini Faster R-CNN with DPK and FGD trains in a process of its own: three image sizes in turn, a checkpoint every 100
iterations, the log as in any run. Every tenth of the run it is counted what could pile up. The checks are the same for
every length: memory after the warm-up (300 iterations, or half of a shorter run), file handles, threads, live tensors,
features held by recorders, forward hooks, buffers, keys and lengths of the message hub, cached position tables, the
state of the mask ratio and the checkpoint's size.

300 iterations by default. The full soak, some minutes on one core::

    DPK_SOAK=3000 python -m pytest -s tests/robustness/test_soak.py

What does grow, and is mmengine's: one number for each logged name and iteration, in memory and in the checkpoint, up
to a million each (``HistoryBuffer``). It is counted here and bounded.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ITERATIONS = int(os.environ.get('DPK_SOAK', '300'))
WARM_UP = min(300, ITERATIONS // 2)
ROWS = 20

linux = pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='reads /proc')


def _config(folder: Path):
    from mmengine.config import Config

    cfg = Config.fromfile(ROOT / 'configs' / 'mini' / 'faster_rcnn_dpk.py')
    cfg.merge_from_dict(
        dict(
            work_dir=str(folder / 'run'),
            model=dict(teacher_ckpt=None),
            train_cfg=dict(
                _delete_=True, type='IterBasedTrainLoop', max_iters=ITERATIONS, val_interval=10**9
            ),
            default_hooks=dict(
                checkpoint=dict(interval=100, by_epoch=False, max_keep_ckpts=1), logger=None
            ),
            log_level='WARNING',
        )
    )
    for name in ('dataloader', 'cfg', 'evaluator'):
        cfg[f'val_{name}'] = cfg[f'test_{name}'] = None
    cfg.param_scheduler = None
    cfg.default_hooks.logger = dict(type='LoggerHook', interval=10)
    loader = cfg.train_dataloader
    loader.update(batch_size=2, num_workers=0, persistent_workers=False, batch_sampler=None)
    loader.sampler = dict(type='InfiniteSampler')
    loader.dataset.data_root = f'{folder}/shapes/'
    loader.dataset.pipeline[2] = dict(
        type='RandomChoiceResize', scales=[(64, 64), (64, 48), (80, 56)], keep_ratio=False
    )
    # the two slowest parts of a step are mmdet's proposals; fewer of them are as good here
    cfg.model.architecture.train_cfg.rpn_proposal.update(nms_pre=50, max_per_img=50)
    return cfg


def _resident_kib() -> int:
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith('VmRSS'):
            return int(line.split()[1])
    raise AssertionError('no VmRSS in /proc/self/status')


def _count(runner, folder: Path) -> dict[str, float]:
    """Everything that could grow."""
    import torch

    from dpk_mm.modules import PositionEmbedding

    model = runner.model
    managers = (model.distiller.student_recorders, model.distiller.teacher_recorders)
    recorders = [r for m in managers for r in m.recorders.values()]
    hub = runner.message_hub
    histories = [len(h.data[0]) for h in hub.log_scalars.values()]
    modules = [m for root in (model, model.teacher) for m in root.modules()]
    tables = [m for m in modules if isinstance(m, PositionEmbedding)]
    hook = next(h for h in runner.hooks if hasattr(h, 'policy'))
    gc.collect()
    checkpoints = list((folder / 'run').glob('iter_*.pth'))
    return dict(
        iteration=runner.iter + 1,
        resident_kib=_resident_kib(),
        handles=len(os.listdir('/proc/self/fd')),
        threads=len(os.listdir('/proc/self/task')),
        tensors=sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects()),
        held_features=sum(len(r.data_buffer) for r in recorders),
        module_hooks=sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules),
        buffers=sum(1 for m in modules for _ in m.buffers(recurse=False)),
        state_keys=len(model.state_dict()),
        hub_keys=len(hub.log_scalars) + len(hub.runtime_info),
        longest_history=max(histories),
        history_limit=max(h.max_length for h in hub.log_scalars.values()),
        tables=max(len(getattr(t, '_sinusoid', ())) for t in tables),
        policy_numbers=len(
            repr(sorted(hook.policy.ratios)) + repr(sorted(hook.policy.similarities))
        ),
        checkpoints=len(checkpoints),
        checkpoint_kib=max((c.stat().st_size // 1024 for c in checkpoints), default=0),
    )


def _soak(folder: Path) -> None:
    """The run; writes what was counted to a file. Called in a process of its own."""
    import torch

    import dpk_mm  # noqa: F401
    from tools.shapes import generate_shapes

    # isort: split
    from mmengine.hooks import Hook
    from mmengine.runner import Runner

    torch.set_num_threads(1)
    generate_shapes(folder / 'shapes', num_train=16, num_val=1)
    rows: list[dict[str, float]] = []
    losses: list[float] = []
    marks = {WARM_UP} | {round((i + 1) * ITERATIONS / ROWS) for i in range(ROWS)}

    class Count(Hook):
        priority = 'LOWEST'

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            losses.append(outputs['loss'].item())
            if runner.iter + 1 in marks:
                rows.append(_count(runner, folder))

    runner = Runner.from_cfg(_config(folder))
    runner.register_hook(Count(), 'LOWEST')
    runner.train()
    result = dict(rows=rows, losses=losses)
    (folder / 'result.json').write_text(json.dumps(result))


@pytest.fixture(scope='module')
def soak(tmp_path_factory):
    folder = tmp_path_factory.mktemp('soak')
    environment = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1')
    environment['CUDA_VISIBLE_DEVICES'] = ''
    done = subprocess.run(
        [sys.executable, __file__, str(folder)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    result = json.loads((folder / 'result.json').read_text())
    for row in result['rows']:
        print(' '.join(f'{k}={v}' for k, v in row.items()))
    return result


def _after_warm_up(soak):
    return [row for row in soak['rows'] if row['iteration'] >= WARM_UP]


@linux
def test_every_step_was_taken_and_is_finite(soak):
    assert len(soak['losses']) == ITERATIONS
    assert all(abs(v) < float('inf') for v in soak['losses'])  # NaN fails, too
    tenth = ITERATIONS // 10
    # it does train: the fall is in the first steps, what follows is noise of generated images
    assert sum(soak['losses'][-tenth:]) / tenth < sum(soak['losses'][:3]) / 3


@linux
def test_resident_memory_is_flat(soak):
    rows = _after_warm_up(soak)
    assert len(rows) >= ROWS // 2
    first, highest = rows[0]['resident_kib'], max(r['resident_kib'] for r in rows)
    assert highest < 1.02 * first, [r['resident_kib'] for r in rows]


@linux
@pytest.mark.parametrize(
    'name',
    [
        'handles',
        'threads',
        'tensors',
        'module_hooks',
        'buffers',
        'state_keys',
        'hub_keys',
        'tables',
        'policy_numbers',
        'checkpoints',
    ],
)
def test_a_count_does_not_grow(soak, name):
    rows = _after_warm_up(soak)
    assert max(r[name] for r in rows) <= rows[0][name], [r[name] for r in rows]


@linux
def test_recorders_hold_nothing_between_steps(soak):
    assert {r['held_features'] for r in soak['rows']} == {0}


@linux
def test_the_history_grows_by_one_number_a_step_and_has_an_end(soak):
    for row in soak['rows']:
        assert row['longest_history'] <= row['iteration']
        assert row['history_limit'] <= 1_000_000
    rows = [r for r in _after_warm_up(soak) if r['checkpoint_kib']]
    per_step = (rows[-1]['checkpoint_kib'] - rows[0]['checkpoint_kib']) / (
        max(rows[-1]['iteration'] - rows[0]['iteration'], 1)
    )
    # two float64 or int64 arrays for each of the logged names, and nothing else
    assert per_step * 1024 <= 2 * 8 * rows[-1]['hub_keys'] * 1.5


if __name__ == '__main__':
    _soak(Path(sys.argv[1]))
