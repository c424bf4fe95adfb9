"""The clips of a comparison inside a page: compressed, equally loud, each with its spectrogram."""

import base64
import io
from pathlib import Path
from typing import Any

import soundfile
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from melody_cm.evaluation.callbacks.audio_samples import spectrogram_picture
from melody_cm.evaluation.results import Results
from melody_cm.signal import resample

SIZE_LIMIT = 24 * 2**20  # Bytes of sound and pictures, so that the page can be sent by mail.
LOUDNESS = 0.07  # RMS that all clips are brought to, about -23 dB below full scale, so that the louder one never wins.
PEAK = 0.98
PICTURE_WIDTH = 480
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


def clips_by_prompt(results: Results, folder: Path) -> tuple[list[dict[str, Any]], int]:
    """Every prompt with the clip of every row from the first seed and the real clip that answers it, if there is one;
    and how many prompts found no room."""
    prompts, seed = results.metadata.get("prompts", []), results.metadata["seeds"][0]
    answers = {one["prompt"]: one for one in results.metadata.get("real_clips", [])}
    shown: list[dict[str, Any]] = []
    size = 0
    for index, prompt in enumerate(prompts):
        clips = [
            _player(f"clip-{index}-{row.label}-{row.num_steps}", row.title, folder / clip["file"], system=row.label)
            for row in results.rows
            for clip in row.facts.get("clips", [])
            if (clip["prompt"], clip["seed"]) == (index, seed)
        ]
        real = [
            _player(f"clip-{index}-real", "Real music", folder / one["file"], caption=one["caption"])
            for one in [answers.get(index)]
            if one is not None
        ]
        size += sum(len(clip["sound"]) + len(clip["picture"]) for clip in [*real, *clips])
        if size > SIZE_LIMIT:
            return shown, len(prompts) - index
        shown.append({"text": prompt, "clips": clips, "real": real})
    return shown, 0


def _player(identity: str, name: str, file: Path, **more: str) -> dict[str, str]:
    return {"id": identity, "name": name, "sound": sound_uri(file), "picture": spectrogram_uri(file), **more}


def sound_uri(path: Path) -> str:
    """A clip as the data URI of an MP3, which every browser plays, at the common loudness."""
    waveform, sample_rate = _read(path)
    if sample_rate not in MP3_RATES:
        nearest = min((rate for rate in MP3_RATES if rate > sample_rate), default=MP3_RATES[-1])
        waveform, sample_rate = resample(waveform[None, None], sample_rate, nearest)[0, 0], nearest
    encoded = io.BytesIO()
    samples = (waveform * loudness_gain(waveform)).numpy()
    soundfile.write(encoded, samples, sample_rate, format="MP3", subtype="MPEG_LAYER_III", compression_level=0.5)
    return _uri("audio/mpeg", encoded.getvalue())


def loudness_gain(waveform: Float[Tensor, " t"]) -> float:
    """The factor that brings a clip to the common RMS, less where its peaks would clip; 1 for silence."""
    rms, peak = waveform.square().mean().sqrt().item(), waveform.abs().max().item()
    return 1.0 if peak == 0 else min(LOUDNESS / rms, PEAK / peak)


def spectrogram_uri(path: Path) -> str:
    """The log-mel spectrogram of a clip, as it is and not at the common loudness, as the data URI of a WebP image."""
    picture = Image.fromarray(spectrogram_picture(*_read(path)))
    encoded = io.BytesIO()
    picture.resize((PICTURE_WIDTH, picture.height)).save(encoded, format="WEBP", quality=60)
    return _uri("image/webp", encoded.getvalue())


def _read(path: Path) -> tuple[Float[Tensor, " t"], int]:
    samples, sample_rate = soundfile.read(path, dtype="float32")
    return torch.from_numpy(samples), sample_rate


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
