"""A picture of a sound: log-mel over time, in colours that mean the same in every picture."""

from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from melody_cm.signal import MelFrontEnd, MelSettings
from melody_cm.storage import write_atomically

WINDOW_SECONDS = 0.064
NUM_MELS = 96
PIXELS_PER_MEL = 2
# Natural logarithms of the mel magnitudes that are black and white, about 100 dB apart.
DARKEST, BRIGHTEST = -9.0, 3.0
# Black, violet, red, orange, white: louder is brighter, in a print without colours too.
COLOURS = np.array([[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]])


def spectrogram_picture(waveform: Float[Tensor, " t"], sample_rate: int) -> UInt8[np.ndarray, "height width 3"]:
    """RGB, low frequencies at the bottom, a column every 16 ms or so."""
    n_fft = 2 ** round(np.log2(WINDOW_SECONDS * sample_rate))
    front_end = MelFrontEnd(MelSettings(sample_rate, n_fft, n_fft // 4, NUM_MELS, 0.0, sample_rate / 2))
    mel = front_end(waveform.cpu()[None, None])[0].T.flip(0)
    loudness = ((mel - DARKEST) / (BRIGHTEST - DARKEST)).clamp(0.0, 1.0).numpy()
    stops = np.linspace(0.0, 1.0, len(COLOURS))
    picture = np.stack([np.interp(loudness, stops, channel) for channel in COLOURS.T], axis=-1)
    return np.repeat(picture.round().astype(np.uint8), PIXELS_PER_MEL, axis=0)


def write_picture(path: Path, picture: UInt8[np.ndarray, "height width 3"]) -> None:
    """Write a PNG file atomically."""
    write_atomically(path, lambda aside: Image.fromarray(picture).save(aside, format="PNG"))
