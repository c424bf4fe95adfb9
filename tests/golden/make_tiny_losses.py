"""Makes tiny_losses.json: the loss of each stage after two steps at size tiny. Run it only where a change is meant."""

import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from two_steps import GOLDEN, losses, train_two_steps

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        found = losses(train_two_steps(Path(folder) / "run"))
    GOLDEN.write_text(json.dumps(dict(sorted(found.items())), indent=2) + "\n", encoding="utf-8")
