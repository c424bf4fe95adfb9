"""Autoencoders, waveform <-> latent, codecs, waveform <-> codes, and vocoders, log-mel -> waveform."""

import importlib
from typing import Any

from melody_cm.autoencoders.bottleneck import DiagonalGaussian
from melody_cm.autoencoders.hifigan_vocoder import HiFiGANVocoder
from melody_cm.autoencoders.mel import MelAutoencoder, with_vocoder
from melody_cm.autoencoders.musicldm import musicldm_autoencoder, musicldm_vocoder
from melody_cm.autoencoders.vocoders import GriffinLim, ISTFTVocoder, PostNetVocoder
from melody_cm.autoencoders.waveform import WaveformAutoencoder

_LATE = {"WaveformCodec": "codec", "EncodecCodec": "encodec", "EncodecPackageCodec": "encodec"}


def __getattr__(name: str) -> Any:
    """The codecs, imported when they are asked for, because their quantizer takes its time."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LATE[name]}"), name)
