"""``python tools/quant.py -c configs/mbv3_pact.yml`` is ``slimkit quant -c configs/mbv3_pact.yml``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from slimkit.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(["quant", *sys.argv[1:]]))
