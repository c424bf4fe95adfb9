"""The semantic tokenizer of each size, and how the encoder takes its place in a small one."""

import pytest

from melody_cm.runs import Setting

RECIPE, ENCODER = "melody/2_semantic_tokenizer", "melody/1_semantic_encoder"


@pytest.mark.parametrize("size", ["tiny", "cpu"])
def test_the_small_sizes_cluster_log_mels_and_need_nothing(size):
    recipe = Setting(size).compose(RECIPE)
    assert recipe.needs == []
    assert recipe.config["model"]["init_args"]["tokenizer"]["class_path"].endswith("LogMelKMeans")


@pytest.mark.parametrize("size", ["small", "paper"])
def test_the_large_sizes_cluster_what_the_encoder_of_that_size_gives(size):
    recipe, encoder = Setting(size).compose(RECIPE), Setting(size).compose(ENCODER)
    assert recipe.needs == [ENCODER]
    tokenizer = recipe.config["model"]["init_args"]["tokenizer"]["init_args"]
    sizes = encoder.config["model"]["init_args"]["semantic_encoder"]["init_args"]
    assert tokenizer["width"] == sizes["width"]
    assert tokenizer["window_seconds"] == encoder.config["data"]["seconds"]
    assert recipe.config["data"]["sample_rate"] == sizes["sample_rate"]


@pytest.mark.parametrize(("size", "width"), [("tiny", 64), ("cpu", 128)])
def test_a_preset_puts_the_encoder_in_at_a_small_size_and_it_is_then_needed(size, width):
    preset = "configs/tokenizer/semantic_kmeans.yaml"
    overrides = ["--model.tokenizer", preset, "--model.tokenizer.width", str(width)]
    recipe = Setting(size, overrides=overrides).compose(RECIPE)
    assert recipe.needs == [ENCODER]
    tokenizer = recipe.config["model"]["init_args"]["tokenizer"]
    assert tokenizer["class_path"] == "melody_cm.encoders.SemanticKMeans"
    assert "num_mels" not in tokenizer["init_args"]
    assert tokenizer["init_args"]["width"] == width
    encoder = Setting(size).compose(ENCODER).config["model"]["init_args"]["semantic_encoder"]["init_args"]
    assert encoder["width"] == width
