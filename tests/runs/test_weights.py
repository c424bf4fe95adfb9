"""Training that starts from the weights of an exported system."""

import json

import pytest
import torch

from melody_cm.cli.main import main
from melody_cm.pipelines import PretrainedPipeline
from melody_cm.runs import Run, Setting, plan, plan_stages
from melody_cm.runs.training import Training
from melody_cm.runs.weights import StartingWeights
from melody_cm.storage import load_network, read_json

FEW = [
    *("--data.corpus.num_clips=16", "--data.batch_size=4", "--trainer.max_steps=1", "--trainer.val_check_interval=1"),
    *("--trainer.log_every_n_steps=1", "--trainer.callbacks=null"),
]


@pytest.fixture(scope="module")
def exports(tiny_run, tmp_path_factory):
    """The systems of the tiny run as folders that know nothing of it."""
    folder = tmp_path_factory.mktemp("exports")
    for system in ("musiccm_teacher", "musiccm", "musiccm_vocoder", "musiccm_teacher_vocoder", "melody"):
        Run(tiny_run).pipeline(system).save_pretrained(folder / system)
    return folder


@pytest.fixture(autouse=True)
def _cache(monkeypatch, tiny_run):
    monkeypatch.setenv("MELODY_CM_CACHE", str(tiny_run.parents[1] / "cache"))
    monkeypatch.setenv("MELODY_CM_RUN", str(tiny_run))


def train(recipe, run, source, *overrides):
    Run(run).train(plan(recipe, Setting("tiny", overrides=[*FEW, *overrides])), start_from=source)
    return Run(run)


def test_a_stage_begins_with_the_weights_and_keeps_the_frozen_parts(exports, tiny_run, tmp_path):
    """One step at a learning rate of nothing leaves the networks of the export."""
    source = exports / "musiccm_teacher"
    still = "--model.optimization.learning_rate=1e-12"
    run = train("musiccm/3_teacher", tmp_path / "tuned", source, still)
    for slot in ("denoiser", "conditioner"):
        theirs = load_network(source / slot).state_dict()
        ours = load_network(run.folder("musiccm/3_teacher") / "export" / slot, own=True).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in ours)
    for stage in ("shared/1_joint_embedding", "musiccm/1_mel_vae"):
        (slot,) = (path.name for path in (run.folder(stage) / "export").iterdir())
        own, theirs = (load_network(folder / stage / "export" / slot, own=True) for folder in (run.path, tiny_run))
        assert all(torch.equal(own.state_dict()[name], value) for name, value in theirs.state_dict().items())
    done = run.finished("musiccm/3_teacher")
    assert done["outcome"]["started_from"] == str(source)
    assert set(done["start"]) == {"denoiser", "conditioner"}
    assert run.finished("musiccm/1_mel_vae")["adopted"]["from"] == str(source)
    tuned = run.pipeline("musiccm_teacher")
    assert tuned("a", 0.5).waveform.isfinite().all()
    assert tuned.history["musiccm/3_teacher"]["started_from"] == "musiccm_teacher"
    assert tuned.history["musiccm/3_teacher"]["started_after"] == 2
    tuned.save_pretrained(tmp_path / "again")
    assert StartingWeights(tmp_path / "again").steps("musiccm/3_teacher") == 3
    assert tuned.history["musiccm/3_teacher"]["music"]["licenses"] == {"CC0-1.0": 12}
    assert tuned.history["musiccm/1_mel_vae"] == PretrainedPipeline.from_pretrained(source).history["musiccm/1_mel_vae"]


def test_what_reads_nothing_of_the_tuned_stage_comes_along_and_the_rest_does_not(exports, tmp_path):
    run = train("musiccm/3_teacher", tmp_path / "teacher", exports / "musiccm_teacher_vocoder")
    assert run.finished("musiccm/2_vocoder")["adopted"]["from"] == str(exports / "musiccm_teacher_vocoder")
    assert run.pipeline("musiccm_teacher_vocoder")("a", 0.5).waveform.isfinite().all()
    run = train("musiccm/1_mel_vae", tmp_path / "autoencoder", exports / "musiccm_vocoder")
    assert run.finished("musiccm/2_vocoder") is not None
    assert run.finished("musiccm/3_teacher") is None


@pytest.mark.slow
def test_it_is_the_tuned_teacher_that_is_distilled(exports, tmp_path):
    """The same option makes the student of what the run has, and takes the rest from the export."""
    run = train("musiccm/3_teacher", tmp_path / "tuned", exports / "musiccm_teacher")
    module = Training(*_student(run, exports / "musiccm_teacher")).module
    tuned = load_network(run.folder("musiccm/3_teacher") / "export/denoiser", own=True).state_dict()
    assert all(torch.equal(value, tuned[name]) for name, value in module.student.state_dict().items())
    module = Training(*_student(run, exports / "musiccm")).module
    known = load_network(exports / "musiccm" / "denoiser").state_dict()
    for network in (module.student, module.target, module.averaged["denoiser"]):
        assert all(torch.equal(value, known[name]) for name, value in network.state_dict().items())
    still = "--model.optimization.learning_rate=1e-12"
    train("musiccm/4_consistency_distillation", run.path, exports / "musiccm_teacher", still)
    student = load_network(run.folder("musiccm/4_consistency_distillation") / "export/denoiser", own=True).state_dict()
    untuned = load_network(exports / "musiccm_teacher/denoiser").state_dict()
    assert all(torch.allclose(value, tuned[name], rtol=0, atol=1e-9) for name, value in student.items())
    assert not all(torch.allclose(value, untuned[name], rtol=0, atol=1e-9) for name, value in student.items())
    history = run.pipeline("musiccm").history
    assert history["musiccm/3_teacher"]["started_from"] == "musiccm_teacher"
    assert "started_from" not in history["musiccm/4_consistency_distillation"]
    assert run.pipeline("musiccm").generate(["a"], 0.5).waveform.isfinite().all()


def _student(run, source):
    run.enter()
    (recipe,) = plan("musiccm/4_consistency_distillation", Setting("tiny", overrides=FEW))
    return recipe, run.folder(recipe.name), StartingWeights(source)


@pytest.mark.parametrize(
    ("system", "stage", "slots"),
    [
        ("musiccm_vocoder", "musiccm/1_mel_vae", ["autoencoder"]),
        ("musiccm_vocoder", "musiccm/2_vocoder", ["vocoder"]),
        ("melody", "shared/1_joint_embedding", ["joint_embedding"]),
        ("melody", "melody/4_semantic_lm", ["semantic_lm"]),
        ("melody", "melody/5_audio_vae_gan", ["autoencoder"]),
        ("melody", "melody/6_dual_path_diffusion", ["denoiser", "conditioner"]),
    ],
)
def test_every_stage_that_learns_starts_from_a_system_that_has_it(system, stage, slots, exports, tmp_path):
    start, run = StartingWeights(exports / system), Run(tmp_path / "run").enter()
    (recipe,) = plan(stage, Setting("tiny", overrides=FEW))
    start.adopt(recipe.needs, run.path)
    before = Training(recipe, tmp_path / "new").module
    module = Training(recipe, tmp_path / "new", start).module
    assert set(start.hashes(stage)) == set(slots)
    for own in start._of(stage):
        for networks in (module.trained, module.averaged):
            (name,) = (name for name, each in networks.items() if type(each) is type(own.network))
            found, random = (each[name].state_dict() for each in (networks, before.trained))
            assert all(torch.equal(found[key], value) for key, value in own.weights.items())
            assert any(not torch.equal(random[key], value) for key, value in own.weights.items())


def test_an_interrupted_training_goes_on_with_the_same_option_only(exports, tmp_path):
    run = train("musiccm/2_vocoder", tmp_path / "run", exports / "musiccm_vocoder")
    assert run.finished("musiccm/2_vocoder")["outcome"]["steps"] == 1
    train("musiccm/2_vocoder", run.path, exports / "musiccm_vocoder", "--trainer.max_steps=2")
    assert run.finished("musiccm/2_vocoder")["outcome"]["steps"] == 2
    with pytest.raises(ValueError, match=r"made from something else: .*start\.vocoder"):
        train("musiccm/2_vocoder", run.path, None)


@pytest.mark.parametrize(
    ("system", "stage", "size", "message"),
    [
        ("musiccm_teacher", "musiccm/2_vocoder", "tiny", "holds no vocoder of this stage, but networks of shared/"),
        ("musiccm", "musiccm/3_teacher", "tiny", "holds no denoiser of this stage"),
        ("musiccm_teacher", "musiccm/1_mel_vae", "cpu", r"autoencoder holds another network: \S+ is"),
        ("melody", "melody/2_semantic_tokenizer", "tiny", "is fitted, not trained"),
        ("musiccm", "melody/4_semantic_lm", "tiny", "stage melody/\\S+ is not finished in .* holds only networks of"),
    ],
)
def test_what_does_not_fit_is_named_before_any_step(system, stage, size, message, exports, tmp_path):
    overrides = [*FEW, "--data.seconds=2.56"]
    with pytest.raises(ValueError, match=message):
        Run(tmp_path / "run").train(plan(stage, Setting(size, overrides=overrides)), start_from=exports / system)
    assert not (tmp_path / "run" / stage / "last.ckpt").exists()


def test_an_export_that_does_not_know_its_stages_is_refused(exports, tmp_path, capsys):
    pipeline = PretrainedPipeline.from_pretrained(exports / "musiccm")
    for network in pipeline.networks.values():
        network.made_by = {}
    pipeline.save_pretrained(tmp_path / "old")
    words = ["train", "musiccm/3_teacher", "--size", "tiny", "--runs", str(tmp_path), "--run", "x"]
    assert main([*words, "--from", str(tmp_path / "old")]) == 2
    assert "does not say which stages made it" in capsys.readouterr().err


def test_an_export_of_an_export_still_knows_its_stages(exports, tmp_path):
    PretrainedPipeline.from_pretrained(exports / "melody").save_pretrained(tmp_path / "again")
    first, again = StartingWeights(exports / "melody"), StartingWeights(tmp_path / "again")
    assert first.stages == again.stages
    assert {stage: first.hashes(stage) for stage in first.stages} == {s: again.hashes(s) for s in again.stages}


def test_a_part_that_was_left_out_comes_from_a_stage_and_nowhere_else(exports, tmp_path):
    """What a strange export says of its frozen parts is never built."""
    PretrainedPipeline.from_pretrained(exports / "melody").save_pretrained(tmp_path / "strange")
    file = tmp_path / "strange/conditioner/config.json"
    config = read_json(file)
    assert config["left_out"]
    program = {"class_path": "antigravity.Anything", "init_args": {}}
    for place in (program, "../../elsewhere", "/tmp/elsewhere", "shared/../../elsewhere", "melody", None):
        strange = {"made_by": {"": place}, "left_out": dict.fromkeys(config["left_out"], place)}
        file.write_text(json.dumps({**config, **strange}))
        network = load_network(tmp_path / "strange/conditioner")
        assert (network.made_by, network.left_out) == ({}, {}), place
    file.write_text(json.dumps({**config, "made_by": {"forward": "melody/6_dual_path_diffusion"}}))
    start = StartingWeights(tmp_path / "strange")
    assert "conditioner" not in start.hashes("melody/6_dual_path_diffusion")


def test_what_the_plan_trains_is_not_taken_from_the_export(exports, tmp_path):
    recipes = plan_stages(["musiccm/2_vocoder", "shared/1_joint_embedding"], Setting("tiny", overrides=FEW))
    Run(tmp_path / "run").train(recipes[:1], start_from=exports / "musiccm_vocoder")
    assert "adopted" not in Run(tmp_path / "run").finished("musiccm/2_vocoder")
