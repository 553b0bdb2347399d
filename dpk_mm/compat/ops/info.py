"""What mmcv reports about its compiled ops, for ``mmcv.utils.collect_env``."""


def get_compiler_version() -> str:
    """Name and version of the compiler; there is none here."""
    return 'n/a (ops of torchvision)'


def get_compiling_cuda_version() -> str:
    """CUDA version of the compiled ops; there is none here."""
    return 'n/a (ops of torchvision)'
