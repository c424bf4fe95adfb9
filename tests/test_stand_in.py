"""Every stage, callback and pipeline on an accelerator that is not there (`stand_in`): nothing of the CPU meets it, and
a training step waits for it only as often as is pinned here."""

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from stand_in import DEVICE, Elsewhere, StandIn, strategy
from two_steps import STAGES

from melody_cm.comparison import System, compare
from melody_cm.evaluation.callbacks.audio_samples import AudioSamplesCallback
from melody_cm.evaluation.callbacks.measures import FrechetAudioDistanceCallback, RetrievalCallback, SISNRCallback
from melody_cm.evaluation.embeddings import LogMelEmbedding
from melody_cm.evaluation.folders import evaluate
from melody_cm.evaluation.judge import load_embedding
from melody_cm.pipelines import Request
from melody_cm.placement import Placement
from melody_cm.runs import Run, Setting
from melody_cm.runs.training import build_stage

# Whether loss and gradient are finite is read once for each optimizer; what else waits:
WAITS = {
    "melody/1_semantic_encoder": 2,  # How many frames are hidden.
    "melody/2_semantic_tokenizer": 2,  # The features come to the CPU, where they are clustered.
    "melody/3_joint_tokenizer": 2,
    "melody/4_semantic_lm": 2,  # transformers asks whether sequences are packed,
    "melody/5_audio_vae_gan": 1,
    "melody/6_dual_path_diffusion": 1,
    "melody/7_consistency_distillation": 2,
    "musiccm/1_mel_vae": 1,
    "musiccm/2_vocoder": 1,
    "musiccm/3_teacher": 2,  # and whether a text is padded.
    "musiccm/4_consistency_distillation": 3,
    "musiclm/1_codec": 21,  # The quantizer's library reads and replaces dead codes, level by level.
    "musiclm/2_coarse_lm": 2,
    "musiclm/3_fine_lm": 2,
    "shared/1_joint_embedding": 2,
}
HEARD = ("melody/5_audio_vae_gan", "musiccm/1_mel_vae", "musiccm/3_teacher", "musiclm/1_codec")
# One of a kind runs by default.
SLOW = (
    *("melody/1_semantic_encoder", "melody/3_joint_tokenizer", "melody/7_consistency_distillation"),
    *("musiccm/1_mel_vae", "musiccm/2_vocoder", "musiccm/3_teacher"),
    *("musiccm/4_consistency_distillation", "musiclm/1_codec", "musiclm/2_coarse_lm", "musiclm/3_fine_lm"),
)


class Waits(Callback):
    """Of the second step, in which nothing is done for the first time."""

    def __init__(self, stand_in: StandIn) -> None:
        self.stand_in, self.count = stand_in, 0

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        self.before = self.stand_in.waits.total()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.count = self.stand_in.waits.total() - self.before
        assert all(isinstance(parameter, Elsewhere) for parameter in module.parameters())


def watching(name: str) -> list[Callback]:
    """The callbacks that a stage can have."""
    if name == "shared/1_joint_embedding":
        return [RetrievalCallback(2, batch_size=4)]
    if name in HEARD:
        heard = [SISNRCallback(2, num_clips=2, batch_size=2), AudioSamplesCallback(2, num_clips=1)]
        if name == "musiclm/1_codec":  # Its crops are too short for an embedding.
            return heard
        return [*heard, FrechetAudioDistanceCallback(LogMelEmbedding(), 2, num_clips=2, batch_size=2)]
    return []


def composed(name: str):
    recipe = Setting("tiny").compose(name)
    recipe.config["data"]["corpus"]["init_args"]["num_clips"] = 48
    if "num_steps" in recipe.config["model"]["init_args"] and name not in SLOW:
        recipe.config["model"]["init_args"]["num_steps"] = 2
    return recipe


def test_every_stage_has_its_number():
    assert set(WAITS) == set(STAGES)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in WAITS]
)
def test_a_stage_trains_validates_and_samples_on_an_accelerator(name, tiny_run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # Where callbacks write.
    monkeypatch.setenv("MELODY_CM_CACHE", str(tiny_run.parents[1] / "cache"))
    Run(tiny_run).enter()
    with StandIn() as stand_in:
        module, data = build_stage(composed(name))
        fitted = not hasattr(module, "trained")
        waits = Waits(stand_in)
        Trainer(
            max_steps=-1 if fitted else 2, max_epochs=1 if fitted else -1, strategy=strategy(), logger=False,
            limit_train_batches=2, limit_val_batches=1, val_check_interval=2, check_val_every_n_epoch=None,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
            callbacks=[waits, *watching(name)], use_distributed_sampler=False,
        ).fit(module, data)  # fmt: skip
        assert waits.count == WAITS[name]
        module.to(DEVICE).eval()  # Lightning brings it back to the CPU.
        batch = next(data.batches("valid", 2)).to(DEVICE)
        for method in ("sample", "reconstruct", "denoising", "embed_pairs"):
            if hasattr(module, method):
                with torch.no_grad():
                    made = getattr(module, method)(batch)
                assert isinstance(made if isinstance(made, torch.Tensor) else made[0], Elsewhere)


@pytest.fixture
def one_thread(monkeypatch):
    """The stand-in is of one thread alone, so streams are made as they are taken."""
    monkeypatch.setattr("melody_cm.pipelines.pretrained.one_ahead", lambda blocks: blocks)


OTHERS = ("melody", "melody_cm", "musiccm_teacher", "musiccm_vocoder", "musiccm_teacher_vocoder", "musiclm")
PIPELINES = ["musiccm", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_makes_on_an_accelerator_what_it_makes_on_the_cpu(name, tiny_run, one_thread, monkeypatch):
    pipeline = Run(tiny_run).enter().pipeline(name)
    seconds, steps = (0.1 if name == "musiclm" else pipeline.max_seconds / 2), 1
    expected = pipeline.generate(["calm", "loud"], seconds, 0, steps).waveform
    prompts = pipeline.embed_prompts(["calm", "loud"])
    with StandIn() as stand_in:
        pipeline.to(DEVICE)
        torch.testing.assert_close(pipeline.embed_prompts(["calm", "loud"]).cpu(), prompts)
        # A toy tokenizer has codes so near to each other that rounding chooses between them.
        monkeypatch.setattr(pipeline, "embed_prompts", lambda texts: prompts[: len(texts)].to(DEVICE))
        stand_in.waits.clear()
        made = pipeline.generate(["calm", "loud"], seconds, 0, steps).waveform
        assert isinstance(made, Elsewhere)
        assert (made.cpu() - expected).norm() < 1e-3 * expected.norm()
        assert stand_in.waits["copy to the CPU"] == 1
        if name == "melody":
            given, rate = made[:1].cpu(), pipeline.sample_rate
            pipeline.continue_from(given, rate, Request(seconds=1.5 * seconds, num_steps=1))
            music = torch.rand(1, 1, round(2 * seconds * rate))
            pipeline.inpaint(music, rate, seconds, 1.1 * seconds, Request(num_steps=1))
        if name == "musiccm":
            list(pipeline.stream(["calm"], 2 * pipeline.max_seconds, num_steps=1))
            for settings in ({"loop": True}, {"windows": "independent"}):
                pipeline.generate(["calm"], 2 * pipeline.max_seconds, num_steps=1, **settings)
        pipeline.to(torch.device("cpu"))


@pytest.mark.slow
def test_a_comparison_and_an_evaluation_run_on_an_accelerator(tiny_run, tmp_path, one_thread):
    run, tones = Run(tiny_run).enter(), 0.1 * torch.randn(2, 1, 8000)
    reference = [(tones, 8000, ["piece 0", "piece 1"])]
    with StandIn():
        placement = Placement(DEVICE)
        pipelines = {name: run.pipeline(name).to(DEVICE) for name in ("musiccm",)}
        embeddings = [LogMelEmbedding(), load_embedding("joint:shared/1_joint_embedding")]
        placement.put(embeddings)
        systems = {name: System(pipeline, [1]) for name, pipeline in pipelines.items()}
        asked = {"repetitions": 1, "real": reference}
        results = compare(systems, ["calm", "loud"], [0], 1.28, reference, embeddings, tmp_path / "compare", **asked)
        assert {row.facts["placement"]["device"] for row in results.rows if row.num_steps} == {"meta"}
        clips = tmp_path / "compare/audio/musiccm/1"
        found = evaluate(clips, clips, embeddings, placement=placement, prompts=None)
        assert found.rows[0].metrics["fad_logmel"].value == pytest.approx(0, abs=1e-6)
