"""Integrated loudness as broadcasting measures it (ITU-R BS.1770-4)."""

import math

import numpy as np
from jaxtyping import Float
from scipy import signal
from torch import Tensor

BLOCK_SECONDS, OVERLAP = 0.4, 0.75
ABSOLUTE_GATE, RELATIVE_GATE = -70.0, -10.0
OFFSET = -0.691  # So that a tone of 997 Hz at full scale in one channel reads -3.01 LUFS.
# Analogue corner (Hz), quality and gain (dB) of both filters of the standard, from which any sample rate follows
# (De Man, "Evaluation of implementations of the EBU R128 loudness measurement", 2018).
SHELF = (1681.9744509555319, 0.7071752369554193, 3.99984385397)
HIGH_PASS = (38.13547087613982, 0.5003270373253953)


def loudness(waveform: Float[Tensor, " t"], sample_rate: int) -> float:
    """LUFS of one channel: of the K-weighted blocks of 0.4 s that are neither silence nor 10 dB below the others.

    Audio shorter than a block counts as one block. -inf for silence.
    """
    samples = signal.sosfilt(_k_weighting(sample_rate), waveform.double().cpu().numpy())
    size = min(round(BLOCK_SECONDS * sample_rate), len(samples))
    stride = max(1, round(size * (1 - OVERLAP)))
    powers = (np.lib.stride_tricks.sliding_window_view(samples, size)[::stride] ** 2).mean(1)
    loud = powers[powers > _power(ABSOLUTE_GATE)]
    if not len(loud):
        return -math.inf
    loud = loud[loud > loud.mean() * 10 ** (RELATIVE_GATE / 10)]
    return OFFSET + 10 * math.log10(loud.mean())


def _power(lufs: float) -> float:
    return 10 ** ((lufs - OFFSET) / 10)


def _k_weighting(sample_rate: int) -> Float[np.ndarray, "2 6"]:
    """A high shelf for the head and a high pass, as second-order sections."""
    corner, quality, gain = SHELF
    k, high = math.tan(math.pi * corner / sample_rate), 10 ** (gain / 20)
    band = high**0.4996667741545416
    scale = 1 + k / quality + k * k
    head = [
        *((high + band * k / quality + k * k) / scale, 2 * (k * k - high) / scale),
        *((high - band * k / quality + k * k) / scale, 1.0, 2 * (k * k - 1) / scale, (1 - k / quality + k * k) / scale),
    ]
    corner, quality = HIGH_PASS
    k = math.tan(math.pi * corner / sample_rate)
    scale = 1 + k / quality + k * k
    low = [1.0, -2.0, 1.0, 1.0, 2 * (k * k - 1) / scale, (1 - k / quality + k * k) / scale]
    return np.array([head, low])
