"""How fast do clips come, and how long does a training step wait for them?

    python benchmarks/loader.py
    python benchmarks/loader.py --recipe recipes/melody/5_audio_vae_gan.yaml --workers 0 2 --steps 60

Two tables. Throughput: batches of 16 random crops of 5 s out of ten-second files, resampled from 44.1 to 24 kHz, as
WAV, FLAC, Ogg Vorbis, Opus (48 kHz) and MP3; clips a second and times real time. Data wait: a stage at its tiny size
under its own Trainer, on the FLAC files; the share of the time that lies between the end of a step and the next one.
"""

import argparse
import itertools
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import soundfile
import soxr
from lightning.pytorch import Callback

from melody_cm.data import ManifestCorpus, MusicDataModule, SyntheticCorpus
from melody_cm.evaluation.provenance import describe_machine
from melody_cm.runs import Setting
from melody_cm.runs.run import quieten
from melody_cm.runs.training import Training

FORMATS = {
    "WAV": (".wav", 44100, {}),
    "FLAC": (".flac", 44100, {}),
    "Vorbis": (".ogg", 44100, {"format": "OGG", "subtype": "VORBIS"}),
    "Opus": (".opus", 48000, {"format": "OGG", "subtype": "OPUS"}),
    "MP3": (".mp3", 44100, {"format": "MP3"}),
}
CLIPS, BATCH, SECONDS = 48, 16, 5.0


def write_corpus(folder: Path, name: str) -> None:
    """Stereo files of procedural music with a manifest."""
    suffix, rate, options = FORMATS[name]
    folder.mkdir()
    rows = []
    for number, clip in enumerate(SyntheticCorpus(CLIPS, 10.0).clips()):
        samples, source_rate = soundfile.read(clip.audio)
        samples = soxr.resample(samples, source_rate, rate)
        soundfile.write(folder / f"{number}{suffix}", samples[:, None].repeat(2, axis=1), rate, **options)
        row = {"id": clip.id, "audio": f"{number}{suffix}", "caption": clip.captions[0], "split": clip.split}
        rows.append(json.dumps(row | {"duration": 10.0}))
    (folder / "manifest.jsonl").write_text("\n".join(rows))


def clips_a_second(folder: Path, num_workers: int, num_batches: int) -> float:
    """Of the training loader, once its workers have begun."""
    data = MusicDataModule(ManifestCorpus(str(folder)), 24000, SECONDS, BATCH, num_workers)
    batches = iter(data.train_dataloader())
    for _ in itertools.islice(batches, 2 + 2 * num_workers):
        pass
    start = time.perf_counter()
    for _ in itertools.islice(batches, num_batches):
        pass
    return BATCH * num_batches / (time.perf_counter() - start)


class StepClock(Callback):
    """When each step of a training began, its batch in hand, and when it ended."""

    def __init__(self) -> None:
        self.begins: list[float] = []
        self.ends: list[float] = []

    def on_train_batch_start(self, *arguments: Any) -> None:
        self.begins.append(time.perf_counter())

    def on_train_batch_end(self, *arguments: Any) -> None:
        self.ends.append(time.perf_counter())

    def waited(self, first: int) -> tuple[float, float]:
        """From step `first` on: milliseconds a step, and the share of them between the end of one and the next."""
        seconds = self.ends[-1] - self.ends[first - 1]
        waits = [begin - end for end, begin in zip(self.ends[first - 1 :], self.begins[first:], strict=False)]
        return 1000 * seconds / len(waits), sum(waits) / seconds


def data_wait(recipe: Path, corpus: Path, num_workers: int, steps: int) -> tuple[float, float]:
    """Milliseconds a step and the share of waiting, of one stage on a corpus; the first third does not count."""
    settings = {"trainer.max_steps": steps, "trainer.val_check_interval": 10 * steps, "data.num_workers": num_workers}
    overrides = [f"--{name}={value}" for name, value in settings.items()]
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting("tiny", corpus=str(corpus), overrides=overrides)
        training, clock = Training(setting.compose(recipe), Path(folder)), StepClock()
        training.trainer.callbacks.append(clock)
        training.trainer.fit(training.module, training.data)
    return clock.waited(steps // 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/musiccm/1_mel_vae.yaml"))
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    quieten()
    machine = describe_machine()
    print(f"{machine['system']}, {machine['cpu_cores']} cores, {machine['threads']} threads, {machine['versions']}")
    print("file    " + "".join(f"{count:3d} workers: clips/s  x real time" for count in arguments.workers))
    with tempfile.TemporaryDirectory() as name:
        for form in FORMATS:
            folder = Path(name) / form
            write_corpus(folder, form)
            rates = [clips_a_second(folder, count, arguments.batches) for count in arguments.workers]
            print(f"{form:8}" + "".join(f"{rate:20.0f}  {SECONDS * rate:11.0f}" for rate in rates), flush=True)
        print(f"\n{arguments.recipe}, size tiny, on FLAC of 44.1 kHz")
        for count in arguments.workers:
            step, share = data_wait(arguments.recipe, Path(name) / "FLAC", count, arguments.steps)
            print(f"{count:3d} workers: {step:7.1f} ms a step, {100 * share:5.1f} % of it waiting for data", flush=True)


if __name__ == "__main__":
    main()
