"""Packaging of dpk_mm. `bash tools/install.sh` makes an environment with the pinned versions."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


def read_version() -> str:
    text = (ROOT / 'dpk_mm' / 'version.py').read_text(encoding='utf-8')
    return re.search(r"^__version__ = '([^']+)'$", text, re.MULTILINE).group(1)


def read_requirements(name: str) -> list:
    lines = (ROOT / 'requirements' / name).read_text(encoding='utf-8').splitlines()
    return [line for line in lines if line and not line.startswith('#')]


# The tools that work without the repository; the others need its `tools` package or are about it.
WHEEL_TOOLS = (
    'analysis',
    'convert_cifar_teacher.py',
    'dist_test.sh',
    'dist_train.sh',
    'distill.py',
    'export_student.py',
    'slurm_test.sh',
    'slurm_train.sh',
    'store_logits.py',
    'test.py',
    'train.py',
    'train_modules.py',
)


class BuildWithConfigs(build_py):
    """Adds configs and tools to the wheel as `dpk_mm/.mim/`, as OpenMMLab packages do.

    `model-index.yml` is what `mim search` and `mim download` read. Results stay in the repository: they were nine
    tenths of the wheel.
    """

    def run(self) -> None:
        if self.editable_mode:  # the repository itself is at hand
            super().run()
            return
        # setuptools packs all that lies there, also modules that an earlier build found and that moved since.
        package = Path(self.build_lib) / 'dpk_mm'
        shutil.rmtree(package, ignore_errors=True)
        super().run()
        mim = package / '.mim'
        copy_texts(ROOT / 'configs', mim / 'configs')
        for name in WHEEL_TOOLS:
            copy_texts(ROOT / 'tools' / name, mim / 'tools' / name)
        copy_texts(ROOT / 'model-index.yml', mim / 'model-index.yml')


def copy_texts(source: Path, target: Path) -> None:
    """Copies a file, or of a folder the code and the pages that are about it."""
    if source.is_dir():
        for item in sorted(source.iterdir()):
            # the experiments belong to tools/, which are not installed
            if item.name not in ('experiments', '__pycache__'):
                copy_texts(item, target / item.name)
    elif source.suffix in ('.md', '.py', '.sh', '.yml'):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)


readme = ROOT / 'README.md'
setup(
    name='dpk_mm',
    version=read_version(),
    description='Dynamic Prior Knowledge distillation (DPK, with FGD) for OpenMMLab models',
    long_description=readme.read_text(encoding='utf-8') if readme.is_file() else '',
    long_description_content_type='text/markdown',
    author='the dpk_mm authors',
    license='Apache-2.0',
    packages=find_packages(include=['dpk_mm', 'dpk_mm.*']),
    python_requires='>=3.11',
    # Neither mmcv nor mmcv-lite: they unpack over the same folder, so asking for one of them here
    # would overwrite a compiled mmcv. `requirements/mmcv.txt` is for those who have none.
    install_requires=[
        'torch>=2.1',
        'torchvision>=0.16',
        'mmengine>=0.10.4,<0.11',
        'mmdet>=3.3,<3.4',
        'mmpretrain>=1.2,<1.3',
        'mmrazor>=1.0,<1.1',
        'jinja2',  # the report page; torch needs it, too
        'joblib',
        'matplotlib',
        'numpy>=1.24',
        'pycocotools',
        'rich',
        'timm>=1.0',  # CaiT teachers, through mmpretrain's wrapper
        'setuptools<82',  # mmengine needs its pkg_resources for `package::config` paths
    ],
    extras_require={
        'dev': read_requirements('dev.txt') + read_requirements('onnx.txt'),
        'onnx': read_requirements('onnx.txt'),
    },
    cmdclass={'build_py': BuildWithConfigs},
)
