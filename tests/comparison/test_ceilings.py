"""Real music as a row, and what a decoder leaves of it, against direct computations."""

import pytest
import torch
from toy_systems import SAMPLE_RATE, ToyEmbedding, toy_melody, toy_musiccm

from melody_cm.comparison.ceilings import ceilings
from melody_cm.comparison.coherence import Reference
from melody_cm.comparison.total_bar import TotalBar
from melody_cm.evaluation import EmbeddingStatistics, embed, mean_interval, si_snr
from melody_cm.evaluation.music import chroma_correlation, log_spectral_distance, music_measures

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def reference():
    statistics = EmbeddingStatistics.empty(ToyEmbedding().width)
    statistics.add(embed(ToyEmbedding(), torch.randn(16, 1, SAMPLE_RATE), SAMPLE_RATE), [str(i) for i in range(16)])
    return Reference(ToyEmbedding(), statistics)


def test_real_music_is_judged_as_it_is_and_through_each_decoder_once(reference):
    waveform, pieces = torch.randn(4, 1, SAMPLE_RATE) * 0.1, ["a", "a", "b", "c"]
    melody, other = toy_melody(), toy_melody()
    real = [(waveform[:2], SAMPLE_RATE, pieces[:2]), (waveform[2:], SAMPLE_RATE, pieces[2:])]
    plain, decoded = ceilings(real, {"melody": melody, "again": other}, [reference], TotalBar({}))
    assert (plain.label, decoded.label) == ("real music", "real music, decoder of melody")
    assert plain.num_steps is None
    assert plain.metrics["fad_toy"].groups == {"generated": 3, "reference": 16}
    levels = [music_measures(clip[0], SAMPLE_RATE)["level_dbfs"] for clip in waveform]
    level = plain.metrics["level_dbfs"]
    assert level.value == pytest.approx(sum(levels) / 4)
    assert (level.low, level.high) == pytest.approx(mean_interval(levels, pieces))
    assert "chroma_correlation" not in plain.metrics
    with torch.no_grad():
        heard = melody.autoencoder.decode(melody.autoencoder.encode(waveform)).clamp(-1, 1)
    pairs = list(zip(heard[:, 0], waveform[:, 0], strict=True))
    expected = {
        "si_snr": si_snr(heard, waveform).mean().item(),
        "chroma_correlation": sum(chroma_correlation(*pair, SAMPLE_RATE) for pair in pairs) / 4,
        "log_spectral_distance": sum(log_spectral_distance(*pair) for pair in pairs) / 4,
    }
    found = {key: decoded.metrics[key].value for key in expected}
    assert found == pytest.approx(expected, rel=1e-4)


def test_without_other_music_there_is_no_row(reference):
    assert ceilings([], {"musiccm": toy_musiccm()}, [reference], TotalBar({})) == []
