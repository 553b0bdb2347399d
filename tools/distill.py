"""From two names and a folder of images to a trained student; see --help and docs/any_pair.md."""

import sys
from pathlib import Path

from dpk_mm.cli.distill.main import main

if __name__ == '__main__':
    sys.exit(main(Path(__file__).resolve().parent))
