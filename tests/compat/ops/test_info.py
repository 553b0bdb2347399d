import pytest

from dpk_mm.compat.ops import info


@pytest.mark.skipif('mmcv_ops' not in __import__('dpk_mm').compat.apply(), reason='mmcv has ops')
def test_mmcvs_report_names_what_stands_in():
    from mmcv.utils import collect_env

    found = collect_env()
    assert found['MMCV Compiler'] == info.get_compiler_version() == 'n/a (ops of torchvision)'
    assert found['MMCV CUDA Compiler'] == info.get_compiling_cuda_version()
