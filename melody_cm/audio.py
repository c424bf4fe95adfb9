"""Clips as a pipeline gives them: to listen to, to save, to compute with."""

import base64
import html
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from jaxtyping import Float
from torch import Tensor

FORMATS = {".wav": "PCM_16", ".flac": "PCM_16", ".ogg": "VORBIS", ".mp3": "MPEG_LAYER_III"}


@dataclass
class GeneratedAudio:
    """Clips of one request, and their order: `audio[0]` is the first, `len(audio)` their number.

    In a notebook it shows a player for each clip.

    Attributes:
        waveform: (b, 1, t) fp32 in [-1, 1].
        sample_rate: Hz.
        timings: seconds spent by part (planner, denoiser, decoder).
        prompts: the texts of the clips, where they had one.
    """

    waveform: Tensor
    sample_rate: int
    timings: dict[str, float]
    prompts: Sequence[str | None] = field(default=(), kw_only=True)

    @property
    def seconds(self) -> float:
        """The length of each clip."""
        return self.waveform.shape[-1] / self.sample_rate

    def __len__(self) -> int:
        return len(self.waveform)

    def __getitem__(self, index: int) -> "GeneratedAudio":
        """One clip alone.

        Raises:
            IndexError: there is no such clip.
        """
        place = range(len(self))[index]
        prompts = self.prompts[place : place + 1]
        return GeneratedAudio(self.waveform[place : place + 1], self.sample_rate, self.timings, prompts=prompts)

    def __iter__(self) -> Iterator["GeneratedAudio"]:
        return (self[place] for place in range(len(self)))

    def numpy(self) -> Float[np.ndarray, "..."]:
        """The samples (t,) of one clip, as `IPython.display.Audio(audio.numpy(), rate=audio.sample_rate)` takes them;
        (b, t) of several."""
        samples = self.waveform[:, 0].float().cpu().numpy()
        return samples[0] if len(samples) == 1 else samples

    def save(self, path: Path | str) -> Path:
        """Write one clip as .wav or .flac (16 bit), .ogg or .mp3; returns the path.

        Raises:
            ValueError: several clips, or another suffix; OSError: the file cannot be written.
        """
        path = Path(path)
        if len(self) != 1:
            raise ValueError(f"{len(self)} clips do not fit into one file; save each: audio[0].save({path.name!r})")
        if path.suffix.lower() not in FORMATS:
            raise ValueError(f"{path}: audio is saved as {', '.join(FORMATS)}; give one of these suffixes")
        path.write_bytes(self._encoded(path.suffix.lower()))
        return path

    def _encoded(self, suffix: str) -> bytes:
        file = io.BytesIO()
        soundfile.write(file, self.numpy(), self.sample_rate, FORMATS[suffix], format=suffix[1:])
        return file.getvalue()

    def __repr__(self) -> str:
        clips = "1 clip" if len(self) == 1 else f"{len(self)} clips"
        return f"GeneratedAudio({clips} of {self.seconds:.2f} s at {self.sample_rate} Hz)"

    def _repr_html_(self) -> str:
        return "".join(_player(clip) for clip in self)


def _player(clip: GeneratedAudio) -> str:
    data = base64.b64encode(clip._encoded(".wav")).decode()
    words = html.escape(" ".join(prompt for prompt in clip.prompts if prompt))
    player = f'<audio controls src="data:audio/wav;base64,{data}"></audio>'
    return f"<figure>{player}<figcaption>{words}</figcaption></figure>"
