"""Real music for a reader to hear beside what systems made of a prompt: the clip whose caption is nearest."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor

from melody_cm.data import write_audio


@dataclass
class RealClip:
    """A clip of real music that answers a prompt.

    Attributes:
        prompt: its place in the comparison.
        caption: of the clip.
        waveform: (t,) at `sample_rate` Hz.
    """

    prompt: int
    caption: str
    waveform: Float[Tensor, " t"]
    sample_rate: int

    def write(self, folder: Path) -> dict[str, Any]:
        """Put the sound into the folder of a comparison; what results.json says of it."""
        file = Path("audio") / "real" / f"prompt{self.prompt:03d}.wav"
        write_audio(folder / file, self.waveform, self.sample_rate)
        return {"prompt": self.prompt, "caption": self.caption, "file": file.as_posix()}


def nearest_captions(prompts: Sequence[str], captions: Sequence[str]) -> list[int | None]:
    """For every prompt the place of the nearest caption: the largest cosine of their tf-idf vectors.

    Of equally near ones the first. None where no caption shares a word with the prompt, stop words aside.
    """
    vectorizer = TfidfVectorizer(stop_words="english", token_pattern=r"(?u)\b\w+\b")
    try:
        known = vectorizer.fit_transform(captions)
    except ValueError:  # There is no caption, or none with a word.
        return [None] * len(prompts)
    cosines = vectorizer.transform(prompts) @ known.T
    return [int(row.argmax()) if row.nnz else None for row in cosines]
