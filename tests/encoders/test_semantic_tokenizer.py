import json
from dataclasses import replace

import pytest
import torch
from encoder_toys import SAMPLE_RATE, music_batch

from melody_cm.encoders import SemanticKMeans, Wav2Vec2ConformerEncoder
from melody_cm.encoders.kmeans import window_plan
from melody_cm.interfaces import SemanticEncoder
from melody_cm.storage import load_network, load_stage, save_network, write_json

FRAME = SAMPLE_RATE // 25
STAGE = "melody/1_semantic_encoder"


class Neighbourhood(SemanticEncoder):
    """The spectrum of each frame and its `reach` neighbours on either side; remembers how much it was given."""

    def __init__(self, reach: int = 5, width: int = 8):
        super().__init__()
        self.sample_rate, self.frame_rate, self.width, self.num_layers = SAMPLE_RATE, 25.0, width, 4
        self.reach, self.frames_seen, self.layers_asked = reach, [], []

    def hidden_states(self, waveform, layer):
        self.layers_asked.append(layer)
        frames = torch.nn.functional.pad(waveform[:, 0], (0, -waveform.shape[-1] % FRAME)).unfold(-1, FRAME, FRAME)
        self.frames_seen.append(frames.shape[1])
        spectra = torch.fft.rfft(frames).abs()[..., : self.width]
        padded = torch.nn.functional.pad(spectra, (0, 0, self.reach, self.reach))
        return padded.unfold(1, 2 * self.reach + 1, 1).mean(-1)


def tokenizer(encoder: SemanticEncoder | None = None, **arguments) -> SemanticKMeans:
    encoder = encoder or Neighbourhood()
    sizes = {"codebook_size": 12, "width": encoder.width, "window_seconds": 2.0, "context_seconds": 0.4}
    return SemanticKMeans(encoder, **{**sizes, **arguments})


def fitted(encoder: SemanticEncoder | None = None, **arguments) -> SemanticKMeans:
    made = tokenizer(encoder, **arguments)
    made.fit(made.features(music_batch(8, 2 * SAMPLE_RATE)).flatten(0, 1), seed=0)
    return made


def codes_of(tokenizer: SemanticKMeans, waveform: torch.Tensor) -> torch.Tensor:
    return tokenizer(replace(music_batch(1), waveform=waveform))


@pytest.mark.parametrize("length", [1, 49, 50, 51, 70, 200, 333])
@pytest.mark.parametrize(("window", "overlap"), [(50, 20), (50, 0), (7, 6), (64, 33)])
def test_windows_take_every_frame_once_with_all_the_context_there_is(length, window, overlap):
    taken = []
    for start, keep in window_plan(length, window, overlap):
        end = min(start + window, length)
        assert start >= 0
        assert 0 <= keep.start < keep.stop <= end - start
        assert start == 0 or keep.start >= overlap // 2
        assert end == length or window - keep.stop >= overlap // 2
        taken += range(start + keep.start, start + keep.stop)
    assert taken == list(range(length))


@pytest.mark.parametrize(("samples", "frames"), [(SAMPLE_RATE, 25), (SAMPLE_RATE + 1, 26), (10 * SAMPLE_RATE, 250)])
def test_there_are_exactly_25_codes_a_second(samples, frames):
    assert codes_of(fitted(), torch.randn(2, 1, samples)).shape == (2, 1, frames)


def test_codes_of_long_audio_do_not_depend_on_the_windows_where_the_context_covers_what_the_encoder_hears():
    encoder, waveform = Neighbourhood(reach=5), torch.randn(1, 1, 40 * SAMPLE_RATE + 77)
    whole = fitted(encoder, window_seconds=100.0, context_seconds=0.4)
    for window, context in ((2.0, 0.2), (1.0, 0.2), (7.3, 1.0)):
        streamed = tokenizer(encoder, window_seconds=window, context_seconds=context)
        streamed.load_state_dict(whole.state_dict())
        assert torch.equal(codes_of(streamed, waveform), codes_of(whole, waveform)), (window, context)
    short = tokenizer(encoder, window_seconds=1.0, context_seconds=0.0)
    short.load_state_dict(whole.state_dict())
    assert not torch.equal(codes_of(short, waveform), codes_of(whole, waveform))


def test_with_attention_the_codes_of_five_minutes_hardly_depend_on_the_windows():
    torch.manual_seed(1)
    encoder = Wav2Vec2ConformerEncoder(8000, 25.0, 16, 2, 2, 32, conv_width=8, depthwise_kernel=5).eval()
    t = torch.arange(300 * SAMPLE_RATE) / SAMPLE_RATE
    pitch = 220 * 2 ** (torch.randint(12, (1200,)).repeat_interleave(SAMPLE_RATE // 4) / 12)
    waveform = (0.3 * torch.sin(2 * torch.pi * pitch * t))[None, None]
    ten = tokenizer(encoder, window_seconds=10.0, context_seconds=2.0)
    ten.fit(ten.features(replace(music_batch(1), waveform=waveform[..., : 60 * SAMPLE_RATE])).flatten(0, 1), seed=0)
    seven = tokenizer(encoder, window_seconds=7.0, context_seconds=2.0)
    seven.load_state_dict(ten.state_dict())
    codes, others = codes_of(ten, waveform), codes_of(seven, waveform)
    assert codes.shape == others.shape == (1, 1, 7500)
    assert codes.unique().numel() >= 8
    assert float((codes == others).float().mean()) > 0.9


def test_the_encoder_never_hears_more_than_a_window_however_long_the_audio():
    encoder = Neighbourhood()
    made = fitted(encoder)
    encoder.frames_seen.clear()
    codes_of(made, torch.randn(1, 1, 300 * SAMPLE_RATE))
    assert max(encoder.frames_seen) == 50
    assert len(encoder.frames_seen) == 250  # 7500 frames in steps of 50 - 20.


def test_the_layer_is_the_middle_one_and_codes_are_those_of_the_nearest_normalized_centroid():
    encoder = Neighbourhood()
    made = fitted(encoder)
    assert set(encoder.layers_asked) == {3}  # ceil(0.6 x 4)
    batch = music_batch(4, 2 * SAMPLE_RATE)
    features = made.features(batch)
    codes = made(batch)
    mean, std = made.mean, made.std
    centroids = made.dequantize(torch.arange(12)[None, None])[0]
    distances = torch.cdist((features.flatten(0, 1) - mean) / std, (centroids - mean) / std)
    assert torch.equal(codes.flatten(), distances.argmin(1))
    training = made.features(music_batch(8, 2 * SAMPLE_RATE)).flatten(0, 1)
    assert float(((training - mean) / std).std()) == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"width": 9}, "width 9 must be the semantic encoder's own, 8"),
        ({"frame_rate": 50.0}, "frame_rate 50 must be the semantic encoder's own, 25"),
        ({"window_seconds": 0.8}, "window_seconds 0.8 must be more than twice context_seconds 0.4"),
        ({"depth": 1.5}, "depth 1.5 must be above 0 and at most 1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_with_both_numbers(wrong, message):
    with pytest.raises(ValueError, match=message):
        tokenizer(**wrong)


def test_a_tokenizer_without_codebooks_says_so():
    with pytest.raises(ValueError, match=r"SemanticKMeans has no codebooks yet"):
        codes_of(tokenizer(), torch.randn(1, 1, 8000))
    with pytest.raises(ValueError, match=r"SemanticKMeans has no codebooks yet"):
        tokenizer().dequantize(torch.zeros(1, 1, 1, dtype=torch.long))


def test_a_tokenizer_of_a_frozen_stage_comes_back_and_is_portable_without_it(tmp_path, monkeypatch):
    monkeypatch.setenv("MELODY_CM_RUN", str(tmp_path))
    sizes = {"width": 16, "num_layers": 2, "num_heads": 2, "feedforward_width": 32, "conv_width": 8}
    save_network(Wav2Vec2ConformerEncoder(8000, **sizes), tmp_path / STAGE / "export/semantic_encoder")
    write_json(tmp_path / STAGE / "finished.json", {})
    made = fitted(load_stage(STAGE))
    batch = music_batch(2)
    features = made.features(batch)
    assert set(made.state_dict()) == {"mean", "std", "centroids", "fitted"}
    save_network(made, tmp_path / "tokenizer")
    assert torch.equal(load_network(tmp_path / "tokenizer", own=True)(batch), made(batch))
    save_network(made, tmp_path / "portable", portable=True)
    assert json.loads((tmp_path / "portable/config.json").read_text())["init_args"]["encoder"] is None
    portable = load_network(tmp_path / "portable")
    assert torch.equal(portable.quantize(features), made(batch))
    with pytest.raises(ValueError, match="without its semantic encoder"):
        portable(batch)
