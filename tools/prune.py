"""``python tools/prune.py -c FILE`` is ``slimkit prune -c FILE``, such as configs/mbv1_prune_uniform.yml."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from slimkit.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(["prune", *sys.argv[1:]]))
