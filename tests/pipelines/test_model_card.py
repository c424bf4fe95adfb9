"""The card of a saved system: what it is, how to use it, and how each of its stages was trained."""

from torch import nn
from toy_systems import toy_musiccm

from melody_cm.pipelines import PretrainedPipeline
from melody_cm.pipelines.model_card import model_card

HISTORY = {
    "musiccm/3_teacher": {
        "size": "cpu",
        "steps": 8000,
        "validation_loss": 0.51239,
        "music": {"clips": 8339, "licenses": {"CC0-1.0": 8000, "MIT": 339}},
        "started_from": "demo:musiccm",
        "started_after": 7061,
    },
    "musiccm/1_mel_vae": {"steps": 3500},
}


def test_the_card_tells_parts_steps_music_licences_and_ancestry():
    card = model_card("MusicCM", 16000, 5.12, {"denoiser": nn.Linear(1000, 1000)}, HISTORY, {})
    assert card.startswith("---\nlibrary_name: melody_cm\n")
    assert "- `denoiser`: Linear, 1.00 M parameters\n" in card
    assert "| musiccm/3_teacher | cpu | 8000 after 7061 | 8339 | 0.5124 | demo:musiccm |\n" in card
    assert "| musiccm/1_mel_vae |  | 3500 |  |  |  |\n" in card
    assert "Licences of the music: CC0-1.0, MIT.\n" in card
    assert 'pipeline("a calm piano melody", seconds=5.12)' in card
    assert "## " not in model_card("MusicCM", 16000, 5.12, {}, {}, {})


def test_what_is_known_of_the_training_travels_with_the_system(tmp_path):
    pipeline = toy_musiccm()
    pipeline.history = HISTORY
    pipeline.save_pretrained(tmp_path / "first")
    PretrainedPipeline.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second")
    cards = [(tmp_path / name / "README.md").read_text() for name in ("first", "second")]
    assert cards[0] == cards[1]
    assert "demo:musiccm" in cards[0]


def test_a_strangers_history_makes_no_card_impossible():
    strange = {
        "a/b": 3,
        "c/d": {"validation_loss": "x", "music": {"licenses": [1]}, "steps": None},
        "e/f": {"music": 5},
    }
    assert "| c/d |  |  |  |  |  |" in model_card("MusicCM", 16000, 5.12, {}, strange, {"rows": [3, [None]]})
