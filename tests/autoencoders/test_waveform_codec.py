"""The codec: geometry, gradient straight through the quantizer, commitment, export."""

from pathlib import Path

import pytest
import torch

from melody_cm.autoencoders import WaveformCodec
from melody_cm.configuration import load_config
from melody_cm.signal import fit_length
from melody_cm.storage import build, load_network, save_network
from melody_cm.training.ema import averaged_copy, update_average

PRESET = Path(__file__).resolve().parents[2] / "configs/codec/waveform.yaml"


def codec(**settings) -> WaveformCodec:
    made = WaveformCodec(
        **{
            "sample_rate": 800, "downsampling": [2, 4, 2], "encoder_channels": [4, 6, 8],
            "decoder_channels": [8, 6, 4], "decoder_first_channels": 8, "width": 6, "num_codebooks": 3,
            "codebook_size": 8, "residual_kernels": [3], "residual_dilations": [1, 3], **settings,
        }
    )  # fmt: skip
    for step in range(5):
        made.quantizer.learn(made.features(torch.randn(4, 1, 320)).detach().flatten(0, 1), seed=step)
    return made.eval()


@torch.no_grad()
@pytest.mark.parametrize(("samples", "frames"), [(16, 1), (17, 2), (160, 10), (799, 50)])
def test_codes_and_waveforms_have_the_length_that_the_interface_promises(samples, frames):
    network = codec()
    codes = network.encode_codes(torch.randn(2, 1, samples))
    assert codes.shape == (2, 3, frames)
    assert codes.dtype == torch.long
    waveform = network.decode_codes(codes)
    assert waveform.shape == (2, 1, frames * 16)
    assert waveform.abs().max() <= 1
    assert network.frame_rate == 50.0


def test_the_paper_has_50_frames_a_second_of_12_codes_of_1024():
    with torch.device("meta"):
        network = build(load_config(PRESET))
    assert (network.sample_rate, network.frame_rate) == (24000, 50.0)
    assert (network.num_codebooks, network.codebook_size) == (12, 1024)
    tokens = [4 * network.frame_rate, (network.num_codebooks - 4) * network.frame_rate]
    assert tokens == [200.0, 400.0]


@torch.no_grad()
def test_what_the_first_codebooks_give_does_not_depend_on_the_others():
    network, waveform = codec(), torch.randn(2, 1, 160)
    codes = network.encode_codes(waveform)
    coarse = network.decode_codes(codes[:, :1])
    assert not torch.allclose(coarse, network.decode_codes(codes))
    network.quantizer.layers.layers[1]._codebook.embed.add_(0.5)
    assert torch.equal(network.encode_codes(waveform)[:, :1], codes[:, :1])
    assert torch.equal(network.decode_codes(codes[:, :1]), coarse)


def test_the_gradient_passes_the_quantizer_as_if_it_were_not_there():
    network, waveform = codec().train(), torch.randn(2, 1, 160)
    result = network.reconstruct(waveform)
    weight = torch.randn_like(result.prediction)
    (result.prediction * weight).sum().backward()
    ours = network.encoder.output.bias.grad.clone()
    network.zero_grad()
    features = network.features(waveform)
    quantized = network.quantizer.partial_sums(result.codes)[-1].requires_grad_()
    (fit_length(network.decoder(quantized.transpose(1, 2)), 160) * weight).sum().backward()
    features.backward(quantized.grad)
    torch.testing.assert_close(network.encoder.output.bias.grad, ours, rtol=1e-4, atol=1e-5)
    assert ours.abs().max() > 1e-3


def test_the_training_pass_hears_what_decoding_the_codes_gives():
    network, waveform = codec(), torch.randn(2, 1, 155)
    result = network.reconstruct(waveform)
    assert torch.equal(result.codes, network.encode_codes(waveform))
    torch.testing.assert_close(result.prediction, network.decode_codes(result.codes)[..., :155], rtol=0, atol=1e-5)
    assert torch.equal(result.target, waveform)
    assert not result.features.requires_grad


def test_commitment_is_the_distance_to_every_partial_sum_and_only_the_encoder_follows_it():
    network, waveform = codec().train(), torch.randn(2, 1, 160)
    result = network.reconstruct(waveform)
    features, total, expected = network.features(waveform), 0.0, []
    for level, book in enumerate(network.quantizer.layers.codebooks):
        total = total + book[result.codes[:, level]]
        expected.append((features - total).square().mean())
    torch.testing.assert_close(result.commitment, torch.stack(expected).mean())
    result.commitment.backward()
    assert network.encoder.output.bias.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in network.decoder.parameters())
    assert not list(network.quantizer.parameters())


def test_equal_waveforms_give_equal_results_until_the_codebooks_learn():
    network, waveform = codec().train(), torch.randn(2, 1, 160)
    first, second = network.reconstruct(waveform), network.reconstruct(waveform)
    assert torch.equal(first.prediction, second.prediction)
    network.quantizer.learn(first.features.flatten(0, 1), seed=9)
    assert not torch.equal(network.reconstruct(waveform).prediction, first.prediction)


def test_codebooks_are_exported_and_averaged(tmp_path):
    network, waveform = codec(), torch.randn(2, 1, 160)
    save_network(network, tmp_path / "codec")
    loaded = load_network(tmp_path / "codec")
    assert torch.equal(loaded.encode_codes(waveform), network.encode_codes(waveform))
    average, before = averaged_copy(network), network.quantizer.layers.codebooks.clone()
    network.quantizer.learn(torch.randn(100, 6), seed=1)
    update_average(average, network, decay=0.75)
    expected = 0.75 * before + 0.25 * network.quantizer.layers.codebooks
    torch.testing.assert_close(average.quantizer.layers.codebooks, expected)


def test_what_cannot_be_decoded_or_built_is_refused():
    network = codec()
    with pytest.raises(ValueError, match="codes of 4 codebooks, but the codec has 1 to 3"):
        network.decode_codes(torch.zeros(1, 4, 5, dtype=torch.long))
    with pytest.raises(ValueError, match=r"codes 0 \.\. 8, but the codec's are 0 \.\. 7"):
        network.decode_codes(torch.tensor([[[0, 8]]]))
    with pytest.raises(ValueError, match=r"decoder_channels \[4\] has 1 entries but downsampling \[2, 4, 2\] has 3"):
        codec(decoder_channels=[4])
