"""Autoencoders, waveform <-> latent, and vocoders, log-mel -> waveform."""

from melody_cm.autoencoders.bottleneck import DiagonalGaussian
from melody_cm.autoencoders.mel import MelAutoencoder
from melody_cm.autoencoders.vocoder import GriffinLim
from melody_cm.autoencoders.waveform import WaveformAutoencoder

__all__ = ["DiagonalGaussian", "GriffinLim", "MelAutoencoder", "WaveformAutoencoder"]
