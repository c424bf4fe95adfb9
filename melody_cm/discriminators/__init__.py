"""Discriminators: networks that tell real music from generated music."""

from melody_cm.discriminators.clap_features import ClapFeatures
from melody_cm.discriminators.features import FeatureDiscriminator
from melody_cm.discriminators.mel_patches import MelPatchDiscriminator
from melody_cm.discriminators.waveform import (
    MultiPeriodDiscriminator,
    MultiResolutionDiscriminator,
    WaveformDiscriminator,
)
