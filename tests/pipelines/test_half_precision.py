"""Toy pipelines in half precision: they make the music that they make in fp32, and say how it was made."""

import argparse
import json
from collections import Counter

import pytest
import torch
from toy_systems import toy_melody, toy_musiccm, toy_musiclm, toy_teacher

from melody_cm.cli import generate as verb
from melody_cm.nn.quantized import linear_map
from melody_cm.pipelines import load

TOYS = {"melody": toy_melody, "musiccm": toy_musiccm, "teacher": toy_teacher, "musiclm": toy_musiclm}
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("name", TOYS)
def test_a_pipeline_makes_nearly_the_same_music(name, precision):
    pipeline = TOYS[name]()
    arguments = (["a", "b"], 0.5, 3, 1 if name == "musiclm" else 2)
    expected = pipeline.generate(*arguments).waveform
    made = pipeline.to("cpu", DTYPES[precision]).generate(*arguments).waveform
    assert pipeline.placement.precision == precision
    assert made.dtype == torch.float32
    if name != "musiclm":  # Whose codes are draws: one that differs is another.
        assert 0 < (made - expected).norm() < 0.1 * expected.norm()
    assert torch.equal(pipeline.generate(*arguments).waveform, made)
    assert pipeline.to("auto").placement.precision == precision, "what is not said stays"


def run(*words):
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    return verb.run(parser.parse_args([str(word) for word in words]))


def test_generate_takes_a_device_and_a_precision_and_tells_them_apart(tmp_path):
    toy_melody().save_pretrained(tmp_path / "pipeline")
    words = (tmp_path / "pipeline", "--prompt", "a", "--seconds", 0.5, "--out", tmp_path / "out")
    run(*words, "--device", "cpu", "--precision", "bf16")
    made = json.loads((tmp_path / "out/000_a_seed0.json").read_text())
    assert (made["device"], made["precision"], made["tf32"]) == ("cpu", "bf16", False)
    with pytest.raises(ValueError, match="made with another precision"):
        run(*words)
    with pytest.raises(ValueError, match="no device 'cuda:77' here"):
        run(*words, "--device", "cuda:77")


def test_generate_quantizes_language_models_and_says_so(tmp_path):
    toy_musiclm().save_pretrained(tmp_path / "pipeline")
    toy_musiccm().save_pretrained(tmp_path / "without")
    words = ("--prompt", "a", "--seconds", 0.1, "--device", "cpu", "--out", tmp_path / "out")
    run(tmp_path / "pipeline", *words, "--quantize", "int4")
    made = json.loads((tmp_path / "out/000_a_seed0.json").read_text())
    assert made["precision"] == "fp32 with int4 language models"
    assert made["weights"] == toy_musiclm().weight_hashes(), "the hashes are of what is stored"
    with pytest.raises(ValueError, match="made with another precision"):
        run(tmp_path / "pipeline", *words)
    with pytest.raises(ValueError, match="MusicCM has no language model to quantize; leave quantize out"):
        run(tmp_path / "without", *words, "--quantize", "int4")
    with pytest.raises(ValueError, match="quantization 'int3' is none of int8, int4"):
        run(tmp_path / "pipeline", *words, "--quantize", "int3")


def test_a_quantized_pipeline_samples_with_few_bits_and_is_saved_with_all(tmp_path, monkeypatch):
    toy_musiclm().save_pretrained(tmp_path / "pipeline")
    asked, counts = [], []

    def watched(weight, quantization):
        asked.append(quantization)
        return linear_map(weight, quantization)

    monkeypatch.setattr("melody_cm.language_models.cached_llama.linear_map", watched)
    for quantize in (None, "int8", "int4"):
        pipeline = load(tmp_path / "pipeline", "cpu", "bf16", quantize)
        pipeline.generate("a", 0.1)
        counts.append(Counter(asked))
        asked.clear()
        assert pipeline.to("cpu", torch.float32).placement.quantization == quantize, "what is not said stays"
        pipeline.save_pretrained(tmp_path / "again")
        assert load(tmp_path / "again", "cpu").placement.quantization is None
    # Of each of the three models' layers four maps, packed once.
    assert counts[1:] == [{"int8": 12}, {"int4": 12}]
    assert set(counts[0]) == {None}
