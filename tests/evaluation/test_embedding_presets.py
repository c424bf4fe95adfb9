"""The presets of configs/embedding: each builds, or says in one line what it needs."""

import inspect
from pathlib import Path

import pytest
import yaml

from melody_cm.evaluation import embeddings
from melody_cm.interfaces import AudioEmbedding
from melody_cm.storage import build, find_class

PRESETS = sorted((Path(__file__).resolve().parents[2] / "configs/embedding").glob("*.yaml"))
NEEDS = {
    "joint": "train recipes/shared/1_joint_embedding.yaml",
    "vggish": "vggish needs weights; get them: curl",
    "clap_music": "hf download",
    "clap": "clap needs weights: hf download",
    "encodec": "encodec needs weights: hf download",
    "musicnn": "pip install --no-deps musicnn==0.1.0",
    "musicnn_tags": "pip install --no-deps musicnn==0.1.0",
    "official": "pip install 'melody_cm[fad]'",
}


def test_every_embedding_has_a_preset():
    classes = {yaml.safe_load(preset.read_text())["class_path"].rpartition(".")[2] for preset in PRESETS}
    concrete = {
        name
        for name, kind in inspect.getmembers(embeddings, inspect.isclass)
        if issubclass(kind, AudioEmbedding) and not inspect.isabstract(kind)
    }
    assert classes == concrete


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.stem)
def test_a_preset_names_all_arguments_the_source_first(preset):
    config = yaml.safe_load(preset.read_text())
    parameters = list(inspect.signature(find_class(config["class_path"]).__init__).parameters)[1:]
    assert list(config["init_args"]) == parameters


@pytest.mark.parametrize("name", list(NEEDS))
def test_a_preset_without_its_weights_says_how_to_get_them(name, tmp_path, monkeypatch):
    monkeypatch.setenv("MELODY_CM_RUN", str(tmp_path))
    monkeypatch.setattr("melody_cm.evaluation.embeddings.musicnn.find_spec", lambda package: None)
    preset = next(preset for preset in PRESETS if preset.stem == name)
    with pytest.raises((FileNotFoundError, ValueError)) as caught:
        build(yaml.safe_load(preset.read_text()))
    assert NEEDS[name] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_hand_made_embeddings_need_nothing():
    assert {preset.stem for preset in PRESETS} - set(NEEDS) == {"logmel", "level_matched"}
