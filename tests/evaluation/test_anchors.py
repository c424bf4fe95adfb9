"""What the default embedding says about music whose order everybody knows: other renders, recordings, noise."""

import io
from dataclasses import replace

import soundfile
import torch
from rich.console import Console
from rich.progress import Progress

from melody_cm.evaluation import find_clips
from melody_cm.evaluation.embeddings import LogMelEmbedding
from melody_cm.evaluation.folders import Sides, evaluate_clips

SECONDS = 4.0


def clips(folder, split=None, count=40):
    found = find_clips(str(folder), split)
    return [replace(clip, duration=SECONDS) for clip in found[:: max(1, len(found) // count)]]


def write_noise(folder, count=20):
    for index in range(count):
        noise = torch.randn(int(SECONDS * 16000), generator=torch.Generator().manual_seed(index))
        soundfile.write(folder / f"{index}.wav", (0.1 * noise).clamp(-1, 1).numpy(), 16000)


def distances(generated, reference):
    with Progress(console=Console(file=io.StringIO())) as progress:
        row = evaluate_clips(Sides(generated, reference), [LogMelEmbedding()], progress)
    return {key: score.value for key, score in row.metrics.items()}


def test_other_renders_are_nearer_than_recordings_and_those_nearer_than_noise(shared_data, tmp_path, monkeypatch):
    monkeypatch.setenv("MELODY_CM_CACHE", str(tmp_path / "cache"))
    train, test = (clips(shared_data / "realmusic", split) for split in ("train", "test"))
    recordings = clips(shared_data / "realrec")
    (tmp_path / "noise").mkdir()
    write_noise(tmp_path / "noise")
    noise = clips(tmp_path / "noise")
    renders, recorded, far, also_far = (
        distances(*pair) for pair in ((train, test), (train, recordings), (train, noise), (recordings, noise))
    )
    for key in ("fad_logmel", "kad_logmel"):
        assert renders[key] < recorded[key] / 2
        assert recorded[key] < min(far[key], also_far[key]) / 2
