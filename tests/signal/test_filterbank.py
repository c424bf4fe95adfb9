import numpy as np
import pytest
import torch
from transformers import ASTFeatureExtractor

from melody_cm.signal.filterbank import KaldiFilterBank


@pytest.mark.parametrize(("num_mels", "samples"), [(128, 16000), (64, 5000), (128, 400)])
def test_it_is_what_the_public_audio_transformer_s_extractor_computes(num_mels, samples):
    waveform = 0.3 * torch.randn(2, 1, samples) + 0.1
    extractor = ASTFeatureExtractor(num_mel_bins=num_mels, max_length=1 + (samples - 400) // 160, do_normalize=False)
    expected = extractor(list(waveform[:, 0].numpy()), sampling_rate=16000, return_tensors="np")["input_values"]
    found = KaldiFilterBank(16000, num_mels)(waveform)
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_silence_is_the_floor_and_what_is_short_is_one_frame():
    bank = KaldiFilterBank()
    floor = torch.tensor(1.1920929e-07).log()
    assert bool((bank(torch.zeros(1, 1, 900)) == floor).all())
    assert bank(torch.randn(3, 1, 17)).shape == (3, 1, 128)


def test_it_computes_in_fp32_whatever_surrounds_it():
    waveform = torch.randn(1, 1, 4000)
    bank = KaldiFilterBank()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(bank(waveform), bank(waveform.float()))
        assert bank(waveform).dtype == torch.float32
    torch.testing.assert_close(bank(waveform.double()), bank(waveform))
