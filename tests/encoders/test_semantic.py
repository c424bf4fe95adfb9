import pytest
import torch
from transformers import Wav2Vec2ConformerConfig, Wav2Vec2ConformerModel, Wav2Vec2FeatureExtractor

from melody_cm.encoders import MaskedPrediction, PretrainedSemanticEncoder, Wav2Vec2ConformerEncoder
from melody_cm.encoders.semantic import pad_for_frames, strides_for
from melody_cm.storage import load_network, save_network

SMALL = {"width": 16, "num_layers": 3, "num_heads": 2, "feedforward_width": 32, "conv_width": 8, "depthwise_kernel": 5}


def small_encoder(sample_rate: int = 8000) -> Wav2Vec2ConformerEncoder:
    return Wav2Vec2ConformerEncoder(sample_rate, **SMALL).eval()


def public_folder(path, strides=(5, 2, 2, 2, 2, 2, 2), normalizes=True) -> Wav2Vec2ConformerModel:
    """Random weights in the layout of the public ones: 16 kHz, 50 frames a second."""
    config = Wav2Vec2ConformerConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=[8] * len(strides),
        conv_stride=list(strides), conv_kernel=[10, 3, 3, 3, 3, 2, 2][: len(strides)], feat_extract_norm="layer",
        conv_bias=True, conv_depthwise_kernel_size=5, position_embeddings_type="relative", max_source_positions=200,
        num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    model = Wav2Vec2ConformerModel(config).eval()
    model.save_pretrained(path)
    Wav2Vec2FeatureExtractor(sampling_rate=16000, do_normalize=normalizes).save_pretrained(path)
    return model


@pytest.mark.parametrize(
    ("sample_rate", "strides"),
    [(24000, [5, 3, *[2] * 6]), (16000, [5, *[2] * 7]), (8000, [5, *[2] * 6]), (22050, [7, 7, 3, 3, 2])],
)
def test_the_strides_are_the_prime_factors_of_a_frame(sample_rate, strides):
    assert strides_for(sample_rate, 25.0) == strides


@pytest.mark.parametrize(("sample_rate", "samples"), [(11000, "440"), (24001, "960.04"), (10, "0.4")])
def test_a_rate_without_small_factors_is_refused_with_its_ratio(sample_rate, samples):
    with pytest.raises(ValueError, match=rf"{sample_rate} Hz / frame_rate 25 Hz = {samples} samples a frame"):
        strides_for(sample_rate, 25.0)


def test_at_paper_size_there_are_199_5_million_parameters():
    with torch.device("meta"):
        encoder, heads = Wav2Vec2ConformerEncoder(), MaskedPrediction(768, 512)
    count = sum(parameter.numel() for parameter in encoder.parameters())
    assert count == pytest.approx(199.5e6, rel=0.01)
    assert count + sum(parameter.numel() for parameter in heads.parameters()) == pytest.approx(199.5e6, rel=0.001)


def test_every_parameter_is_used_in_training():
    encoder = small_encoder().train()
    context, features, _ = encoder.masked(torch.randn(2, 1, 3200), torch.arange(10).expand(2, 10) % 2 == 0)
    (context.square().sum() + features.square().sum()).backward()
    assert [name for name, value in encoder.named_parameters() if value.grad is None] == []


def test_the_convolutions_learn_by_a_share_of_their_gradient():
    encoder, waveform, mask = small_encoder(), torch.randn(2, 1, 3200), torch.arange(10).expand(2, 10) % 2 == 0
    gradients = []
    for scale in (1.0, 0.1):
        encoder.zero_grad()
        context, _, size = encoder.masked(waveform, mask, scale)
        (context[..., 0].sum() + size).backward()
        gradients.append({name: value.grad.clone() for name, value in encoder.named_parameters()})
    for name, whole in gradients[0].items():
        share = 0.1 if ".feature_extractor." in name else 1.0
        torch.testing.assert_close(gradients[1][name], share * whole, rtol=1e-3, atol=1e-5, msg=name)
    extracted = encoder.body.feature_extractor(pad_for_frames(waveform, encoder.strides, encoder.kernels, 320)[:, 0])
    torch.testing.assert_close(size, (extracted**2).sum() / extracted.numel())


@pytest.mark.parametrize(("samples", "frames"), [(8000, 25), (8001, 26), (320, 1), (1, 1), (20480, 64)])
def test_there_is_a_frame_for_every_begun_25th_of_a_second(samples, frames):
    encoder = small_encoder()
    assert encoder.hidden_states(torch.randn(2, 1, samples), 1).shape == (2, frames, 16)
    assert encoder.num_frames(samples) == frames


@pytest.mark.parametrize("layer", [0, 1, 3])
def test_hidden_states_are_those_that_transformers_records(layer):
    encoder, waveform = small_encoder(), torch.randn(2, 1, 4000)
    padded = pad_for_frames(waveform, encoder.strides, encoder.kernels, 320)[:, 0]
    with torch.no_grad():
        expected = encoder.body(padded, output_hidden_states=True).hidden_states[layer]
        torch.testing.assert_close(encoder.hidden_states(waveform, layer), expected)


def test_what_a_frame_hears_is_centred_on_its_samples():
    encoder = small_encoder()
    waveform = torch.randn(1, 1, 3200).requires_grad_()
    encoder.hidden_states(waveform, 0)[0, 4].sum().backward()
    heard = waveform.grad[0, 0].nonzero().flatten()
    before, after = 4 * 320 - int(heard[0]), int(heard[-1]) - (5 * 320 - 1)
    assert before > 0
    assert abs(before - after) <= 1


def test_loudness_hardly_matters():
    encoder, waveform = small_encoder(), torch.randn(1, 1, 4000)
    with torch.no_grad():
        loud, soft = encoder.hidden_states(waveform, 3), encoder.hidden_states(0.05 * waveform, 3)
    assert float((loud - soft).norm() / loud.norm()) < 0.05


@pytest.mark.parametrize("layer", [-1, 4])
def test_a_layer_that_is_not_there_is_refused(layer):
    with pytest.raises(ValueError, match=rf"layer {layer} is none of the encoder's; it has 0 to 3"):
        small_encoder().hidden_states(torch.randn(1, 1, 320), layer)


@pytest.mark.parametrize(("wrong", "message"), [({"width": 18}, "width 18 .* 4"), ({"depthwise_kernel": 4}, "4 .* 5")])
def test_sizes_that_do_not_fit_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Wav2Vec2ConformerEncoder(8000, **{**SMALL, **wrong})


def test_an_encoder_comes_back_from_disk_and_from_another_dtype(tmp_path):
    encoder, waveform = small_encoder(), torch.randn(1, 1, 1600)
    before = encoder.hidden_states(waveform, 2)
    save_network(encoder, tmp_path / "encoder")
    torch.testing.assert_close(load_network(tmp_path / "encoder").hidden_states(waveform, 2), before)
    assert encoder.double().hidden_states(waveform.double(), 2).dtype == torch.float64


def test_public_weights_at_50_hz_give_the_mean_of_two_frames(tmp_path):
    body = public_folder(tmp_path)
    encoder = PretrainedSemanticEncoder(str(tmp_path))
    assert (encoder.sample_rate, encoder.frame_rate, encoder.width, encoder.num_layers) == (16000, 25.0, 16, 2)
    waveform = 0.3 * torch.randn(2, 1, 6400) + 0.1
    normal = (waveform - waveform.mean(-1, keepdim=True)) / waveform.std(-1, correction=0, keepdim=True)
    padded = torch.nn.functional.pad(normal[:, 0], (40, 40))  # 400 samples a frame, 320 from one to the next.
    with torch.no_grad():
        own = body(padded, output_hidden_states=True).hidden_states[1]
    assert own.shape == (2, 20, 16)
    expected = (own[:, 0::2] + own[:, 1::2]) / 2
    torch.testing.assert_close(encoder.train().hidden_states(waveform, 1), expected, atol=1e-4, rtol=1e-4)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert encoder.state_dict() == {}


def test_public_weights_whose_preprocessor_leaves_loudness_alone(tmp_path):
    body = public_folder(tmp_path, normalizes=False)
    waveform = 0.3 * torch.randn(1, 1, 640)
    with torch.no_grad():
        own = body(torch.nn.functional.pad(waveform[:, 0], (40, 40)), output_hidden_states=True).hidden_states[2]
    encoder = PretrainedSemanticEncoder(str(tmp_path))
    torch.testing.assert_close(encoder.hidden_states(waveform, 2), own.mean(1, keepdim=True), atol=1e-5, rtol=1e-4)


def test_public_weights_at_a_rate_that_does_not_divide_are_refused_with_both(tmp_path):
    public_folder(tmp_path, strides=(5, 2, 2, 2, 2, 2))
    assert PretrainedSemanticEncoder(str(tmp_path)).group == 4
    with pytest.raises(ValueError, match=r"gives 100 frames a second, no whole multiple of frame_rate 30 Hz"):
        PretrainedSemanticEncoder(str(tmp_path), 30.0)
    with pytest.raises(ValueError, match=r"gives 100 frames a second, no whole multiple of frame_rate 200 Hz"):
        PretrainedSemanticEncoder(str(tmp_path), 200.0)


def test_a_folder_that_is_not_there_or_empty_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere.* semantic encoder; get them"):
        PretrainedSemanticEncoder(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"gives no AutoFeatureExtractor"):
        PretrainedSemanticEncoder(str(tmp_path))
