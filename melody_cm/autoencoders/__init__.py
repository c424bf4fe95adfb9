"""Autoencoders, waveform <-> latent, codecs, waveform <-> codes, and vocoders, log-mel -> waveform."""

from melody_cm.autoencoders.bottleneck import DiagonalGaussian
from melody_cm.autoencoders.codec import WaveformCodec
from melody_cm.autoencoders.encodec import EncodecCodec, EncodecPackageCodec
from melody_cm.autoencoders.hifigan_vocoder import HiFiGANVocoder
from melody_cm.autoencoders.istft_vocoder import ISTFTVocoder
from melody_cm.autoencoders.mel import MelAutoencoder, with_vocoder
from melody_cm.autoencoders.musicldm import musicldm_autoencoder, musicldm_vocoder
from melody_cm.autoencoders.postnet_vocoder import PostNetVocoder
from melody_cm.autoencoders.vocoder import GriffinLim
from melody_cm.autoencoders.waveform import WaveformAutoencoder
