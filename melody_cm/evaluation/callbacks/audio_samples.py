"""Music to listen to while training, with a picture of each sound, in files and in TensorBoard."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.data import write_audio
from melody_cm.evaluation.callbacks.periodic import PeriodicEvaluation
from melody_cm.signal import MelFrontEnd, MelSettings
from melody_cm.storage import write_json

WINDOW_SECONDS = 0.064
NUM_MELS = 96
PIXELS_PER_MEL = 2
# Natural logarithms of the mel magnitudes that are black and white, about 100 dB apart.
DARKEST, BRIGHTEST = -9.0, 3.0
# Black, violet, red, orange, white: louder is brighter, in a print without colours too.
COLOURS = np.array([[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]])


class AudioSamplesCallback(PeriodicEvaluation):
    """Writes what the averaged networks make, to files and to TensorBoard.

    In the stage's folder, samples/step_000200/ holds 00.wav, its log-mel spectrogram 00.png, and so on, and
    captions.json; samples/held_back/ holds the held-back clips themselves, written once. What is not finite is written
    as silence.

    Args:
        every_n_steps, num_clips, batch_size, prompts: as in `PeriodicEvaluation`.
    """

    needs = {"sample": "it makes nothing to listen to"}

    def __init__(
        self, every_n_steps: int, num_clips: int = 4, batch_size: int = 8, prompts: list[str] | None = None
    ) -> None:
        super().__init__(every_n_steps, num_clips, batch_size, prompts)

    def evaluate(self, trainer: Trainer, module: LightningModule, step: int) -> dict[str, float]:
        sampled = self._gather(trainer, module, lambda batch: self.sample(trainer, module, batch))
        self._show(trainer, module, sampled, f"step_{step:06d}", step)
        folder = Path(trainer.default_root_dir) / "samples" / "held_back"
        if self.prompts is None and not trainer.strategy.broadcast(folder.is_dir()):
            originals = self._gather(trainer, module, lambda batch: batch.waveform.to(module.device))
            self._show(trainer, module, originals, "held_back", step)
        return {}

    def _gather(
        self, trainer: Trainer, module: LightningModule, make: Callable[[MusicBatch], Tensor]
    ) -> Float[Tensor, "n t"]:
        """What `make` gives for the clips of all processes, on the CPU: each fills its rows, and the rest are zero."""
        captions, shares = self.clips(trainer)
        length = round(trainer.datamodule.seconds * trainer.datamodule.sample_rate)
        rows = torch.zeros(len(captions), length, device=module.device)
        for places, batch in shares:
            rows[places] = make(batch)[:, 0].nan_to_num(0.0, 0.0, 0.0)
        return trainer.strategy.reduce(rows, reduce_op="sum").cpu()

    def _show(
        self, trainer: Trainer, module: LightningModule, waveforms: Float[Tensor, "n t"], name: str, step: int
    ) -> None:
        if not trainer.is_global_zero:
            return
        folder, rate = Path(trainer.default_root_dir) / "samples" / name, module.sample_rate
        boards = [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        source = "held_back" if name == "held_back" else "samples"
        for index, waveform in enumerate(waveforms.clamp(-1.0, 1.0)):
            picture = spectrogram_picture(waveform, rate)
            write_audio(folder / f"{index:02d}.wav", waveform, rate)
            Image.fromarray(picture).save(folder / f"{index:02d}.png")
            for board in boards:
                board.add_audio(f"{source}/{index:02d}", waveform[None], step, sample_rate=rate)
                board.add_image(f"{source}_spectrogram/{index:02d}", picture, step, dataformats="HWC")
        captions = self.clips(trainer).captions
        write_json(folder / "captions.json", {f"{index:02d}": text for index, text in enumerate(captions)})


def spectrogram_picture(waveform: Float[Tensor, " t"], sample_rate: int) -> UInt8[np.ndarray, "height width 3"]:
    """Log-mel over time in RGB: low frequencies at the bottom, a column every 16 ms or so, one scale for all sounds."""
    n_fft = 2 ** round(np.log2(WINDOW_SECONDS * sample_rate))
    front_end = MelFrontEnd(MelSettings(sample_rate, n_fft, n_fft // 4, NUM_MELS, 0.0, sample_rate / 2))
    mel = front_end(waveform.cpu()[None, None])[0].T.flip(0)
    loudness = ((mel - DARKEST) / (BRIGHTEST - DARKEST)).clamp(0.0, 1.0).numpy()
    stops = np.linspace(0.0, 1.0, len(COLOURS))
    picture = np.stack([np.interp(loudness, stops, channel) for channel in COLOURS.T], axis=-1)
    return np.repeat(picture.round().astype(np.uint8), PIXELS_PER_MEL, axis=0)
