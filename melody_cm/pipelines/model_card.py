"""What a saved system says of itself: README.md of its folder, which the model hub shows."""

from collections.abc import Mapping
from typing import Any

from torch import nn

FRONT_MATTER = "---\nlibrary_name: melody_cm\npipeline_tag: text-to-audio\ntags: [music, text-to-music]\n---\n"
USE = """
```python
import melody_cm

pipeline = melody_cm.load("THIS_FOLDER")
audio = pipeline("a calm piano melody", seconds={seconds:g})
audio.save("piano.wav")
```
"""


def model_card(
    name: str,
    sample_rate: int,
    seconds: float,
    networks: Mapping[str, nn.Module],
    history: Mapping[str, Any],
    results: Mapping[str, Any],
) -> str:
    """The text of a model card of a system: its class's name, Hz, seconds that it was trained on, networks by role, how
    each stage was trained, as `runs.systems.history` tells it, and what a comparison found, as
    `comparison.card_results` tells it; the last two are empty if nobody knows."""
    intro = f"# {name}\n\nText to instrumental music with melody_cm: {sample_rate} Hz mono, trained on {seconds:g} s.\n"
    parts = [
        f"- `{role}`: {type(network).__name__}, {sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters"
        for role, network in networks.items()
    ]
    about = FRONT_MATTER + intro + USE.format(seconds=seconds) + "\n" + "\n".join(parts) + "\n"
    return about + _results(results) + _training(history)


def _results(results: Mapping[str, Any]) -> str:
    rows = results.get("rows")
    if not isinstance(rows, list):
        return ""
    heading = "| steps | measure | value [95 % interval] | embedding | n |\n|---|---|---|---|---|\n"
    lines = "".join(f"| {' | '.join(map(str, row))} |\n" for row in rows if isinstance(row, list))
    return f"\n## Results\n\n{results.get('judged')}\n\n{heading}{lines}"


def _training(history: Mapping[str, Any]) -> str:
    if not history:
        return ""
    heading = "| stage | size | steps | clips of music | held-back loss | started from |\n|---|---|---|---|---|---|\n"
    rows = "".join(_row(stage, facts) for stage, facts in history.items() if isinstance(facts, Mapping))
    licences = sorted({str(name) for facts in history.values() for name in _mapping(_music(facts).get("licenses"))})
    said = f"\nLicences of the music: {', '.join(licences)}.\n" if licences else ""
    return f"\n## Training\n\n{heading}{rows}{said}"


def _row(stage: str, facts: Mapping[str, Any]) -> str:
    loss = facts.get("validation_loss")
    shown = f"{loss:.4g}" if isinstance(loss, int | float) else None
    steps, earlier = facts.get("steps"), facts.get("started_after")
    steps = f"{steps} after {earlier}" if earlier else steps
    values = [facts.get("size"), steps, _music(facts).get("clips"), shown, facts.get("started_from")]
    return f"| {stage} | " + " | ".join("" if value is None else str(value) for value in values) + " |\n"


def _music(facts: Any) -> Mapping[str, Any]:
    return _mapping(_mapping(facts).get("music"))


def _mapping(value: Any) -> Mapping[str, Any]:
    """Keys and values, whatever the file of a stranger holds in their place."""
    return value if isinstance(value, Mapping) else {}
