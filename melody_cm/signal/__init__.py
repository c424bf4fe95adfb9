"""Waveforms, spectra and mels without trained weights."""

from melody_cm.signal.frames import fit_length, num_segments, overlap_add, pad_to_multiple, segment
from melody_cm.signal.griffin_lim import PHASE_PERIOD, griffin_lim, inverse_mel, mel_to_waveform
from melody_cm.signal.mel import MEL_FLOOR, MelFrontEnd, MelSettings, mel_filterbank
from melody_cm.signal.resampling import resample
from melody_cm.signal.stft import istft, stft, stft_magnitude
