"""The language model stage: which codes it learns from, accumulation, bf16, the unigram baseline, what is refused."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader
from toy_systems import ToyCodec, ToyTokenizer, toy_language_model

from melody_cm.batch import MusicBatch
from melody_cm.encoders import CodecTokenizer
from melody_cm.training import LanguageModelTraining, Optimization
from melody_cm.training.language_model import UnigramModel

RATE = 800


class Loudness(ToyTokenizer):
    """Six codes a clip, of its waveform's first samples."""

    def features(self, batch):
        return batch.need_waveform()[:, :, : self.num_codebooks]


def clips(items: list[int]) -> MusicBatch:
    waveform = torch.stack([torch.sin(torch.arange(320) * (0.02 + 0.01 * item)) for item in items])[:, None]
    mask = torch.ones(len(items), 320, dtype=torch.bool)
    return MusicBatch(torch.tensor(items), torch.zeros(len(items)).long(), waveform, mask, [""] * len(items))


class Clips(LightningDataModule):
    """Always the same eight clips in micro-batches; four others are held back."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.sample_rate = size, RATE

    def train_dataloader(self):
        parts = [clips(list(range(s, s + self.size))) for _ in range(40) for s in range(0, 8, self.size)]
        return DataLoader(parts, batch_size=None)

    def val_dataloader(self):
        return DataLoader([clips([20, 21]), clips([22, 23])], batch_size=None)


def coarse_stage(**settings) -> LanguageModelTraining:
    torch.manual_seed(5)
    codec = ToyCodec()
    lm = toy_language_model(20, prompt=(6, 16, 0.0), coarse=(2, 4, 50.0))
    slots = {"prompt": Loudness(), "coarse": CodecTokenizer(codec, 0, 1)} | settings
    return LanguageModelTraining(lm, Optimization(learning_rate=1e-2), **slots, ema_decay=0.9, sample_rate=RATE)


def fit(stage, tmp_path, size=8, accumulate=1, steps=5, **settings) -> Trainer:
    trainer = Trainer(
        accelerator="cpu", max_steps=steps, accumulate_grad_batches=accumulate, default_root_dir=tmp_path, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        val_check_interval=settings.pop("val_check_interval", 1.0), **settings,
    )  # fmt: skip
    trainer.fit(stage, datamodule=Clips(size))
    return trainer


def test_each_stream_has_the_codes_of_the_tokenizer_of_its_name():
    stage, batch = coarse_stage(), clips([0, 1])
    codes = ToyCodec().encode_codes(batch.waveform)
    streams = stage.streams(batch)
    assert list(streams) == ["prompt", "coarse"]
    assert torch.equal(streams["coarse"], codes[:, :2])
    assert torch.equal(streams["prompt"], Loudness()(batch))
    expected = stage.trained["language_model"].loss(streams)
    assert torch.equal(stage.losses(stage.trained, batch)["cross_entropy"], expected)


class Spoken(Loudness):
    """Codes of texts too: six times the length of the text and 5, which no sound has."""

    def text_features(self, texts):
        return torch.tensor([[[5.0 + len(text)] * self.num_codebooks] for text in texts])

    def quantize(self, features):
        return features.long().clamp(0, 15).transpose(1, 2)


def captioned(captions: list[str], epoch: int = 0) -> MusicBatch:
    batch = clips(list(range(len(captions))))
    return replace(batch, captions=captions, epoch=batch.epoch + epoch)


def test_a_share_of_the_captioned_clips_learns_from_the_codes_of_their_captions():
    captions = ["", "ab", " ", "ab"] * 100
    heard, read = Spoken()(captioned(captions)), torch.full((6, 1), 7)
    prompt = coarse_stage(prompt=Spoken(), text_share=0.25).streams(captioned(captions))["prompt"]
    of_text = (prompt == read).all(dim=(1)).flatten()
    assert torch.equal(prompt[~of_text], heard[~of_text])
    assert not of_text[::2].any()
    assert 30 <= of_text.sum() <= 70
    again = coarse_stage(prompt=Spoken(), text_share=0.25).streams(captioned(captions, epoch=1))["prompt"]
    assert not torch.equal(again, prompt)
    assert torch.equal(coarse_stage(prompt=Spoken(), text_share=1.0).streams(captioned(["ab"]))["prompt"][0], read)
    assert torch.equal(coarse_stage(prompt=Spoken()).streams(captioned(captions))["prompt"], heard)


@pytest.mark.parametrize(
    ("prompt", "share", "message"), [(Spoken(), 1.5, "text_share is 1.5"), (Loudness(), 0.5, "no codes of texts")]
)
def test_a_share_of_texts_that_cannot_be_is_refused(prompt, share, message):
    with pytest.raises(ValueError, match=message):
        coarse_stage(prompt=prompt, text_share=share)


def test_a_fine_model_hears_coarse_codes_only():
    codec = ToyCodec()
    lm = toy_language_model(20, coarse=(2, 4, 50.0), fine=(3, 4, 50.0))
    slots = {"coarse": CodecTokenizer(codec, 0, 1), "fine": CodecTokenizer(codec, 2, 4)}
    stage = LanguageModelTraining(lm, Optimization(), **slots, sample_rate=RATE)
    assert stage.target == "fine"
    assert torch.equal(torch.cat(list(stage.streams(clips([3])).values()), 1), codec.encode_codes(clips([3]).waveform))


def test_accumulated_micro_batches_equal_one_large_batch(tmp_path):
    whole, parts = coarse_stage(), coarse_stage()
    fit(whole, tmp_path)
    fit(parts, tmp_path, size=2, accumulate=4)
    start = coarse_stage().state_dict()
    for name, value in whole.state_dict().items():
        if name != "batches_seen":
            torch.testing.assert_close(parts.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    for name, value in whole.trained.state_dict(prefix="trained.").items():
        assert not torch.equal(value, start[name])


@torch.no_grad()
def cross_entropy(stage: LanguageModelTraining) -> float:
    return float(stage.losses(stage.trained, clips(list(range(8))))["cross_entropy"])


def test_bf16_learns_and_keeps_the_weights_in_fp32(tmp_path):
    stage = coarse_stage()
    before = cross_entropy(stage)
    fit(stage, tmp_path, steps=30, precision="bf16-mixed")
    assert {parameter.dtype for parameter in stage.parameters()} == {torch.float32}
    assert cross_entropy(stage) < 0.8 * before


def test_validation_says_what_held_back_codes_cost_by_their_frequencies_alone(tmp_path):
    stage = coarse_stage()
    trainer = fit(stage, tmp_path, size=4, steps=6, val_check_interval=6)
    codec, seen, total = ToyCodec(), [Counter(), Counter()], 0.0
    for _ in range(3):  # Six micro-batches of four are three times eight clips.
        for level, row in enumerate(codec.encode_codes(clips(list(range(8))).waveform).unbind(1)):
            if level < 2:
                seen[level].update(row.flatten().tolist())
    held_back = codec.encode_codes(clips([20, 21, 22, 23]).waveform)[:, :2]
    for level, counter in enumerate(seen):
        for code in held_back[:, level].flatten().tolist():
            total -= math.log((counter[code] + 1) / (counter.total() + 4))
    assert float(trainer.callback_metrics["val/unigram_nll"]) == pytest.approx(total / held_back.numel(), rel=1e-5)
    assert "val/loss" in trainer.callback_metrics


def test_before_any_music_every_code_costs_the_same():
    surprise = UnigramModel(3, 7).surprise(torch.randint(7, (2, 3, 5)))
    assert float(surprise) == pytest.approx(math.log(7))


def test_frequencies_are_kept_with_the_checkpoint():
    stage = coarse_stage()
    stage.unigrams.count(torch.tensor([[[0, 0, 3], [1, 1, 1]]]))
    assert stage.state_dict()["unigrams.counts"].tolist() == [[2, 0, 0, 1], [0, 3, 0, 0]]


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ({"coarse": CodecTokenizer(ToyCodec(), 0, 2)}, "3 codebooks of 4 codes but .* stream coarse has 2 of 4"),
        ({"coarse": None}, r"tokenizers for \['prompt'\] but .* streams \['coarse', 'prompt'\]"),
        ({"fine": CodecTokenizer(ToyCodec(), 2, 4)}, r"tokenizers for \['coarse', 'fine', 'prompt'\]"),
        ({"coarse": CodecTokenizer(ToyCodec(sample_rate=1600), 0, 1)}, "1600 Hz but the data has 800 Hz"),
    ],
)
def test_tokenizers_that_do_not_fit_the_streams_are_refused_before_training(slots, message):
    with pytest.raises(ValueError, match=message):
        coarse_stage(**slots)


def test_another_frame_rate_is_refused_with_both():
    lm = toy_language_model(20, coarse=(2, 4, 75.0))
    with pytest.raises(ValueError, match=r"makes 50 frames a second but .* stream coarse has 75"):
        LanguageModelTraining(lm, Optimization(), coarse=CodecTokenizer(ToyCodec(), 0, 1), sample_rate=RATE)
