"""Discriminators: networks that tell real music from generated music."""

from melody_cm.discriminators.multi_period import MultiPeriodDiscriminator
from melody_cm.discriminators.multi_resolution import MultiResolutionDiscriminator
from melody_cm.discriminators.waveform import WaveformDiscriminator

__all__ = ["MultiPeriodDiscriminator", "MultiResolutionDiscriminator", "WaveformDiscriminator"]
