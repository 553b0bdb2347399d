"""What is installed: the wheel, and a user's own script that trains one of its configs."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from tools.shapes import generate_shapes

ROOT = Path(__file__).parents[1]
SOURCES = ('LICENSE', 'MANIFEST.in', 'README.md', 'model-index.yml', 'pyproject.toml', 'setup.py')
FOLDERS = ('configs', 'dpk_mm', 'requirements', 'tools')

# As users write it: mmengine's Runner, a config of the installed package, data of their own.
SCRIPT = """
import sys
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

import dpk_mm

configs = Path(dpk_mm.__file__).parent / '.mim' / 'configs'


def train(name, **options):
    cfg = Config.fromfile(configs / name)
    cfg.work_dir = f'work/{Path(name).stem}'
    cfg.train_cfg = dict(by_epoch=False, max_iters=2, val_interval=10)
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False, batch_size=2)
    cfg.train_dataloader.dataset.data_root = 'shapes/'
    for part in ('val', 'test'):
        cfg[f'{part}_dataloader'].update(num_workers=0, persistent_workers=False)
        cfg[f'{part}_dataloader'].dataset.data_root = 'shapes/'
        cfg[f'{part}_evaluator'].ann_file = 'shapes/annotations/val.json'
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=2)
    cfg.default_hooks.logger.interval = 1
    cfg.merge_from_dict(options)
    Runner.from_cfg(cfg).train()
    return f'{cfg.work_dir}/iter_2.pth'


teacher = train('mini/faster_rcnn_teacher.py')
train('mini/faster_rcnn_dpk.py', **{'model.teacher_ckpt': teacher})
files = {getattr(module, '__file__', None) for module in list(sys.modules.values())}
print('FILES', *sorted(filter(None, files)), sep='\\n')
"""


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """Built from a copy, so that nothing is left in the repository."""
    source = tmp_path_factory.mktemp('source')
    for name in SOURCES:
        shutil.copy2(ROOT / name, source / name)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns('__pycache__'))
    # what an older build left there must not come along
    (source / 'build' / 'lib' / 'dpk_mm' / 'experiments').mkdir(parents=True)
    (source / 'build' / 'lib' / 'dpk_mm' / 'experiments' / '__init__.py').write_text('')
    out = tmp_path_factory.mktemp('wheel')
    command = ['pip', 'wheel', '--no-deps', '--no-build-isolation', '--no-index', '-q', '-w']
    _run([*command, str(out), str(source)], cwd=out)
    (file,) = out.glob('*.whl')
    return file


def _run(arguments, cwd, **environment):
    done = subprocess.run(
        [sys.executable, '-m', *arguments] if arguments[0] == 'pip' else arguments,
        cwd=cwd,
        env={**os.environ, 'OMP_NUM_THREADS': '1', **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_wheel_is_small_and_holds_no_workshop(wheel):
    assert wheel.stat().st_size < 8e5
    names = zipfile.ZipFile(wheel).namelist()
    assert {Path(name).suffix for name in names if '/.mim/' in name} == {
        '.md',
        '.py',
        '.sh',
        '.yml',
    }
    assert not [name for name in names if '/experiments/' in name or '/results/' in name]
    top = {name.split('/')[0] for name in names}
    assert {name for name in top if not name.endswith('.dist-info')} == {'dpk_mm'}


def test_the_oldest_python_is_that_of_the_installation(wheel):
    archive = zipfile.ZipFile(wheel)
    (name,) = (n for n in archive.namelist() if n.endswith('.dist-info/METADATA'))
    # hashlib.file_digest is no older
    assert 'Requires-Python: >=3.11\n' in archive.read(name).decode()
    assert 'sys.version_info < (3, 11)' in (ROOT / 'tools' / 'install.sh').read_text()


def test_the_package_of_the_wheel_is_that_of_the_repository(wheel):
    names = {n for n in zipfile.ZipFile(wheel).namelist() if n.startswith('dpk_mm/')}
    ours = {file.relative_to(ROOT).as_posix() for file in (ROOT / 'dpk_mm').rglob('*.py')}
    assert {name for name in names if '/.mim/' not in name} == ours


def test_the_wheel_has_the_configs_and_the_tools_that_work_without_the_repository(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    mim = {name.partition('/.mim/')[2] for name in names if '/.mim/' in name}
    configs = {file.relative_to(ROOT).as_posix() for file in (ROOT / 'configs').rglob('*.py')}
    assert {name for name in configs if not name.startswith('configs/experiments/')} <= mim
    assert {'tools/train.py', 'tools/test.py', 'tools/export_student.py'} <= mim
    assert {'tools/dist_train.sh', 'tools/slurm_test.sh', 'tools/analysis/complexity.py'} <= mim
    for name in mim:
        if name.startswith('tools/') and name.endswith('.py'):
            text = (ROOT / name).read_text(encoding='utf-8')
            assert 'from tools' not in text and 'import tools' not in text, name


def test_mim_finds_the_models(wheel):
    archive = zipfile.ZipFile(wheel)
    names = archive.namelist()
    index = yaml.safe_load(archive.read('dpk_mm/.mim/model-index.yml'))
    for metafile in index['Import']:
        assert f'dpk_mm/.mim/{metafile}' in names
        for model in yaml.safe_load(archive.read(f'dpk_mm/.mim/{metafile}'))['Models']:
            assert f'dpk_mm/.mim/{model["Config"]}' in names


@pytest.mark.slow
def test_a_script_outside_the_repository_trains_a_config_of_the_wheel(wheel, tmp_path):
    site, user = tmp_path / 'site', tmp_path / 'user'
    _run(
        ['pip', 'install', '--no-deps', '--no-index', '-q', '--target', str(site), str(wheel)],
        tmp_path,
    )
    user.mkdir()
    generate_shapes(user / 'shapes', num_train=4, num_val=2)
    (user / 'my_training.py').write_text(SCRIPT)
    out = _run([sys.executable, 'my_training.py'], user, PYTHONPATH=str(site))
    files = [Path(line) for line in out.rpartition('FILES')[2].split()]
    assert site / 'dpk_mm' / '__init__.py' in files
    # an environment inside the checkout, such as CI's, is not of the repository
    environment = Path(sys.prefix).resolve()
    foreign = [file for file in files if file.is_relative_to(ROOT)]
    assert not [file for file in foreign if not file.is_relative_to(environment)]
    for name in ('faster_rcnn_teacher', 'faster_rcnn_dpk'):
        assert (user / 'work' / name / 'iter_2.pth').is_file()
