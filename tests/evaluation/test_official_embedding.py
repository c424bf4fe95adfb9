"""The frechet-audio-distance package as an embedder: a fake in its place, well behaved and badly, and its absence."""

import subprocess
import sys
import types

import numpy as np
import pytest
import torch

from melody_cm.evaluation.embeddings import OfficialEmbedding, OptionalDependencyError
from melody_cm.evaluation.embeddings.official import MODELS
from melody_cm.storage import hash_weights

HUB_FOLDER = torch.hub.get_dir()


class FakeDistance:
    """The package's class as far as it is used: VGGish-like rows, the first number being the patch's mean level."""

    created: list[dict] = []

    def __init__(self, ckpt_dir, model_name, sample_rate):
        torch.hub.set_dir(ckpt_dir)
        self.created.append({"ckpt_dir": ckpt_dir, "model_name": model_name, "sample_rate": sample_rate})
        self.model_name, self.model = model_name, torch.nn.Linear(2, 2)
        self.heard = []

    def get_embeddings(self, x, sr):
        rows = []
        for audio in x:
            assert isinstance(audio, np.ndarray)
            assert audio.ndim == 1
            self.heard.append((len(audio), sr))
            model = MODELS[self.model_name]
            row = np.zeros((model.frames(len(audio)), model.width), np.float32)
            row[:, 0] = np.abs(audio).mean()
            rows.append(row[0] if self.model_name == "pann" else row)
        return np.concatenate(rows, axis=0)

    def score(self, *folders):
        raise AssertionError("score swallows errors and returns -1; it must never be called")


def pretend(monkeypatch, kind=FakeDistance):
    package = types.ModuleType("frechet_audio_distance")
    package.FrechetAudioDistance = kind
    monkeypatch.setitem(sys.modules, "frechet_audio_distance", package)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.3.4")


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A folder with a file of the right name for everything that the package would download."""
    for model in MODELS.values():
        for name in model.files:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
    monkeypatch.setattr("melody_cm.evaluation.embeddings.official.try_to_load_from_cache", lambda repo, name: "here")
    FakeDistance.created.clear()
    return str(tmp_path)


@pytest.mark.parametrize(
    ("model_name", "seconds", "frames"),
    [("vggish", 3.0, 3), ("pann", 3.0, 1), ("clap", 3.0, 1), ("clap", 26.0, 3), ("encodec", 3.0, 225)],
)
def test_the_packages_rows_are_the_embedding(model_name, seconds, frames, weights, monkeypatch):
    pretend(monkeypatch)
    embedding = OfficialEmbedding(model_name, weights)
    rate = embedding.sample_rate
    waveform = torch.stack([torch.full((1, round(seconds * rate)), level) for level in (0.1, 0.2)])
    found = embedding(waveform)
    assert found.shape == (2, frames, embedding.width)
    torch.testing.assert_close(found[..., 0], torch.tensor([0.1, 0.2])[:, None].expand(2, frames))
    longest = 10 * rate if model_name == "clap" else waveform.shape[-1]
    assert all(heard[0] <= longest and heard[1] == rate for heard in embedding.package.heard)
    assert FakeDistance.created == [{"ckpt_dir": weights, "model_name": model_name, "sample_rate": rate}]


def test_the_identity_names_model_package_and_weights(weights, monkeypatch):
    pretend(monkeypatch)
    embedding = OfficialEmbedding("vggish", weights)
    identity = embedding.identity
    assert (identity.name, identity.version) == ("official_vggish", "frechet-audio-distance-0.3.4")
    assert identity.weights == hash_weights(embedding.package.model)
    assert (identity.sample_rate, identity.width, identity.trained) == (16000, 128, True)


def test_torchs_hub_folder_is_put_back(weights, monkeypatch):
    pretend(monkeypatch)
    OfficialEmbedding("vggish", weights)
    assert torch.hub.get_dir() == HUB_FOLDER != weights


def test_the_absent_package_is_one_clear_error(weights):
    with pytest.raises(OptionalDependencyError, match=r"pip install 'melody_cm\[fad\]'") as caught:
        OfficialEmbedding("vggish", weights)
    assert isinstance(caught.value.__cause__, ImportError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("problem", [OSError, RuntimeError, ImportError])
def test_a_package_that_cannot_be_imported_is_the_same_error(problem, weights, monkeypatch):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "frechet_audio_distance":
                raise problem("Could not load this library:\n _torchaudio.abi3.so")

    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(OptionalDependencyError, match=r"\(Could not load this library: _torchaudio") as caught:
        OfficialEmbedding("vggish", weights)
    assert isinstance(caught.value.__cause__, problem)


def test_a_model_that_cannot_be_loaded_is_an_error_too(weights, monkeypatch):
    class Unloadable(FakeDistance):
        def __init__(self, **options):
            super().__init__(**options)
            raise RuntimeError("no checkpoint")

    pretend(monkeypatch, Unloadable)
    with pytest.raises(OptionalDependencyError, match=r"cannot load its clap from .* \(no checkpoint\)"):
        OfficialEmbedding("clap", weights)
    assert torch.hub.get_dir() == HUB_FOLDER


def misbehaving(answer):
    """A package whose get_embeddings does `answer(rows)`."""

    class Misbehaving(FakeDistance):
        def get_embeddings(self, x, sr):
            return answer(super().get_embeddings(x, sr))

    return Misbehaving


def swallowed(rows):
    print("[Frechet Audio Distance] get_embeddings throw an exception: out of luck")
    return np.concatenate([], axis=0)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda rows: rows[:1], "gave 1 embeddings of a clip that has 3"),
        (lambda rows: rows[:0], "gave 0 embeddings of a clip that has 3"),
        (lambda rows: -1, "failed: "),
        (lambda rows: rows[:, :100], "failed: "),
        (lambda rows: None, "failed: "),
        (swallowed, "failed: .* get_embeddings throw an exception: out of luck"),
    ],
)
def test_what_is_not_the_right_number_of_vectors_is_an_error(answer, message, weights, monkeypatch, capsys):
    pretend(monkeypatch, misbehaving(answer))
    with pytest.raises(RuntimeError, match=message):
        OfficialEmbedding("vggish", weights)(torch.randn(1, 1, 48000))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_embedding_that_is_not_finite_is_an_error(value, weights, monkeypatch):
    pretend(monkeypatch, misbehaving(lambda rows: rows + value))
    with pytest.raises(ValueError, match="gave an embedding that is not finite"):
        OfficialEmbedding("vggish", weights)(torch.randn(1, 1, 48000))


def test_audio_that_is_too_short_never_reaches_the_package(weights, monkeypatch):
    pretend(monkeypatch)
    embedding = OfficialEmbedding("vggish", weights)
    with pytest.raises(ValueError, match=r"0\.90 s of audio; official_vggish needs at least 0\.975 s"):
        embedding(torch.randn(1, 1, 14400))
    assert embedding.package.heard == []


@pytest.mark.parametrize("model_name", list(MODELS))
def test_missing_weights_are_named_with_their_command_and_nothing_is_downloaded(model_name, tmp_path, monkeypatch):
    pretend(monkeypatch)
    FakeDistance.created.clear()
    first = next(iter(MODELS[model_name].files))
    with pytest.raises(FileNotFoundError) as caught:
        OfficialEmbedding(model_name, str(tmp_path))
    how = "git clone https" if model_name == "vggish" else "curl -L --create-dirs -o"
    assert f"needs {tmp_path / first}; get it: {how}" in str(caught.value)
    assert FakeDistance.created == []


def test_clap_needs_its_text_encoder_in_the_cache(weights, monkeypatch):
    pretend(monkeypatch)
    monkeypatch.setattr("melody_cm.evaluation.embeddings.official.try_to_load_from_cache", lambda repo, name: None)
    with pytest.raises(FileNotFoundError, match="hf download roberta-base"):
        OfficialEmbedding("clap", weights)


def test_an_unknown_model_is_an_error():
    with pytest.raises(ValueError, match="model_name is 'mert'; the package knows vggish, pann, clap, encodec"):
        OfficialEmbedding("mert")


@pytest.mark.slow
def test_everything_else_works_without_the_package_and_its_friends():
    """`None` in sys.modules makes every import of that name fail."""
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['frechet_audio_distance', 'encodec', 'torchaudio', 'laion_clap']))\n"
        "import melody_cm\n"
        "from melody_cm.cli.main import build_parser\n"
        "build_parser([]).format_help()\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
        "import melody_cm.evaluation.embeddings\n"
        "assert 'transformers.models.clap' not in sys.modules\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
