"""The semantic tokenizer of each size, and how the encoder takes its place in a small one."""

from pathlib import Path

import pytest

from melody_cm.cli.recipe import compose

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPE = REPOSITORY / "recipes/melody/2_semantic_tokenizer.yaml"
PRESET = REPOSITORY / "configs/tokenizer/semantic_kmeans.yaml"
ENCODER = "melody/1_semantic_encoder"


@pytest.mark.parametrize(("size", "name"), [("tiny", "LogMelKMeans"), ("cpu", "LogMelKMeans")])
def test_the_small_sizes_cluster_log_mels_and_need_nothing(size, name):
    recipe = compose(RECIPE, size)
    assert recipe.needs == []
    assert recipe.stages_read == []
    assert recipe.config["model"]["init_args"]["tokenizer"]["class_path"].endswith(name)


@pytest.mark.parametrize("size", ["small", "paper"])
def test_the_large_sizes_cluster_what_the_encoder_of_that_size_gives(size):
    recipe = compose(RECIPE, size)
    assert recipe.needs == recipe.stages_read == [ENCODER]
    tokenizer = recipe.config["model"]["init_args"]["tokenizer"]["init_args"]
    encoder = compose(REPOSITORY / f"recipes/{ENCODER}.yaml", size)
    sizes = encoder.config["model"]["init_args"]["semantic_encoder"]["init_args"]
    assert tokenizer["width"] == sizes["width"]
    assert tokenizer["window_seconds"] == encoder.config["data"]["seconds"]
    assert recipe.config["data"]["sample_rate"] == sizes["sample_rate"]


@pytest.mark.parametrize("size", ["tiny", "cpu"])
def test_a_preset_puts_the_encoder_in_at_a_small_size(size):
    width = {"tiny": "64", "cpu": "128"}[size]
    overrides = ["--model.tokenizer", str(PRESET), "--model.tokenizer.width", width, "--needs", f"[{ENCODER}]"]
    recipe = compose(RECIPE, size, overrides=overrides)
    assert recipe.needs == recipe.stages_read == [ENCODER]
    tokenizer = recipe.config["model"]["init_args"]["tokenizer"]
    assert tokenizer["class_path"] == "melody_cm.encoders.SemanticKMeans"
    assert "num_mels" not in tokenizer["init_args"]
    assert tokenizer["init_args"]["width"] == int(width)
    encoder = compose(REPOSITORY / f"recipes/{ENCODER}.yaml", size).config["model"]["init_args"]["semantic_encoder"]
    assert encoder["init_args"]["width"] == int(width)
