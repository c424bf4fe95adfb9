"""One stage: built from its recipe, trained or resumed by Lightning, exported, declared finished."""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping, Timer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from melody_cm.configuration import leaves
from melody_cm.data import MusicDataModule
from melody_cm.data.encoded import encoded_folder, find_encoded, frozen_outputs
from melody_cm.data.jobs import naming_lost_workers
from melody_cm.interfaces import Network
from melody_cm.placement import Placement, allow_tf32
from melody_cm.runs.fingerprint import Fingerprint, lasting, write_finished
from melody_cm.runs.processes import require_first
from melody_cm.runs.recipe import LIGHTNING, Recipe, build_data
from melody_cm.runs.weights import StartingWeights
from melody_cm.storage import build, current_run, load_network, load_weights, save_network, write_json, write_text
from melody_cm.storage.files import located
from melody_cm.training.compiled import Compiled
from melody_cm.training.lifecycle import AtomicCheckpointIO, LastCheckpoint, LossTrace, StageProgress, remedy
from melody_cm.training.monitors import BestCheckpoint, MonitorCheck
from melody_cm.training.stage import Stage
from melody_cm.training.watch import TrainingWatch

MOST_ROWS = 100_000  # Of which licences are counted.
WORTH_ENCODING = 4  # Times that a training hears each clip.


class Training:
    """All that trains one stage, built from its recipe; a ValueError that names it if parts do not fit each other.

    Its networks begin with `start`, unless there is a last.ckpt; with `end_now` it ends where that stands.
    """

    def __init__(
        self, recipe: Recipe, folder: Path, start: StartingWeights | None = None, end_now: bool = False
    ) -> None:
        self.recipe, self.folder = recipe, folder
        # A student may begin as the teacher of the run, whose own row tells where that came from.
        self.started_from = start.source if start is not None and start.hashes(recipe.name) else None
        self.started_after = start.steps(recipe.name) if start is not None and self.started_from else None
        steps, settings = recipe.planned_steps, recipe.config["trainer"]
        logged = max(1, steps // settings.get("log_every_n_steps", 50))  # 50 is Lightning's default.
        try:
            self.module, self.data = build_stage(recipe)
            if start is not None:
                start.give(recipe, self.module)
            self.trace = LossTrace(span=max(1, min(20, logged // 5)))
            self.checkpoint = LastCheckpoint(folder / "last.ckpt", max(1, min(500, steps // 4)), max_seconds(settings))
            own = [self.trace, TrainingWatch(), StageProgress(recipe.name, steps), self.checkpoint]
            own += [Compiled()] if recipe.config.get("compile") else []
            self.trainer = build_trainer(recipe, folder, own + ([EndNow()] if end_now else []))
            if self.trainer.num_devices * self.trainer.num_nodes == 1:
                require_first()
        except FileNotFoundError:
            raise
        except (ValueError, TypeError, MisconfigurationException) as error:
            raise ValueError(f"{recipe.name}: {error}") from error

    def fit(self, made_from: Fingerprint) -> dict[str, Any] | None:
        """Train or resume, and leave the export and finished.json.

        Returns the outcome (steps, loss before and after, seconds), or None if a signal or the time interrupted it. A
        ValueError if last.ckpt is damaged or of another training, or too many steps could not be taken; an OSError if
        the disk is full: the last.ckpt of before stays.
        """
        allow_tf32(self.trainer.strategy.root_device)
        self._read_encoded()
        if self.trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(self.folder / "config.yaml", yaml.safe_dump(self.recipe.config, sort_keys=False))
            own = {"stage": self.recipe.name, "size": self.recipe.size, "placement": self.placement}
            write_json(self.folder / "begun.json", {**vars(made_from), **own})
        started, last = time.monotonic(), self.folder / "last.ckpt"
        self.trainer.callbacks.append(SameTraining(made_from, last))
        for logger in self.trainer.loggers:
            logger.log_hyperparams({".".join(keys): value for keys, value in leaves(self.recipe.config)})
        try:
            with naming_lost_workers("reads music", "set data.num_workers lower"):
                self.trainer.fit(self.module, self.data, ckpt_path=str(last) if last.is_file() else None)
        except MisconfigurationException as error:
            raise ValueError(f"{self.recipe.name}: {error}") from error
        except SystemExit as error:  # What Lightning makes of Ctrl-C outside the steps.
            raise KeyboardInterrupt from error
        except Exception as error:
            if self.trainer.is_global_zero and not self.folder.is_dir():  # Loggers say something else each.
                raise OSError(
                    f"{self.folder} was removed while it was trained; the same command begins anew"
                ) from error
            told: Exception = error
            if self.trainer.world_size > 1 and "by peer" in str(error):  # Of gloo or NCCL: a connection is gone.
                told = OSError("another process of this training ended; its message says why")
            if isinstance(told, OSError) and (saved := self.checkpoint.saved_steps) is not None:
                told = OSError(f"{told}; last.ckpt holds step {saved}, from where the same command goes on")
            if told is error:
                raise
            raise told from error
        if self.checkpoint.interrupted:
            return None
        refuse_spoilt(self.module.exports, self.trainer)
        outcome = self._outcome(time.monotonic() - started)
        self.trainer.save_checkpoint(last)
        if self.trainer.is_global_zero:
            self._export()
            write_finished(self.folder, made_from, outcome)
        self.trainer.strategy.barrier("stage finished")
        return outcome

    @property
    def placement(self) -> dict[str, Any]:
        """The device of this process, Lightning's precision, and whether fp32 products are rounded to TF32."""
        return Placement(self.trainer.strategy.root_device).facts() | {"precision": str(self.trainer.precision)}

    @property
    def steps_taken(self) -> int:
        """Steps of the optimizer, or batches gathered, so far."""
        return int(self.module.steps_done)

    def _read_encoded(self) -> None:
        """Let the loaders read what `melody-cm data encode` left in the run, if anything."""
        data, name = self.data, self.recipe.name
        folder = encoded_folder(current_run(), self.recipe.config["data"])
        with located(name):
            data.encoded = find_encoded(folder, self.module, data.sample_rate, data.fingerprint)
        if data.encoded is not None:
            beside = ", and waveforms" if data.encoded.reads_waveform else ""
            names = ", ".join(each.name for each in data.encoded.outputs)
            self.trainer.print(f"{name}: reads encoded {names}{beside}")
        elif frozen_outputs(self.module, data.sample_rate) and (times := self._visits()) >= WORTH_ENCODING:
            self.trainer.print(
                f"{name}: nothing whole is encoded for its encoders, corpus, rate and length, so they work on each "
                f"clip about {times:.0f} times; once is enough after `melody-cm data encode` with these options"
            )

    def _visits(self) -> float:
        """How often the training hears each clip of its corpus, on average."""
        batches = self.trainer.max_steps * self.trainer.accumulate_grad_batches
        return batches * self.data.batch_size / len(self.data.split_clips("train"))

    def _export(self) -> None:
        """Write the networks, and those of `best.ckpt`, if there is one, beside those of the last step."""
        for name, network in self.module.exports.items():
            save_network(network, self.folder / "export" / name)
        if not (self.folder / "best.ckpt").is_file():
            return
        checkpoint = AtomicCheckpointIO().load_checkpoint(self.folder / "best.ckpt")
        load_weights(self.module, checkpoint["state_dict"], "best.ckpt")
        self.module.on_train_end()  # It was saved before what the end of a training adds.
        for name, network in self.module.exports.items():
            save_network(network, self.folder / "best" / name)

    def _outcome(self, seconds: float) -> dict[str, Any]:
        before, after = getattr(self.module, "outcome", None) or self.trace.movement or (None, None)
        metrics = {key: float(value) for key, value in self.trainer.callback_metrics.items() if key.startswith("val/")}
        report = getattr(self.module, "report", {})
        for key, value in {"val/loss": metrics.get("val/loss"), **report}.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{key} is {value} after training; {remedy(self.trainer)} and train with --retrain")
        measured = {key: value for key, value in metrics.items() if math.isfinite(value)}  # JSON knows no others.
        return {
            "size": self.recipe.size,
            "music": music_facts(self.data),
            "started_from": self.started_from,
            "started_after": self.started_after,
            "placement": self.placement,
            "steps": self.steps_taken,
            "planned_steps": self.recipe.planned_steps,
            "ended_by": self._ended_by(),
            "skipped_steps": self.module.skipped.count if isinstance(self.module, Stage) else 0,
            "loss_before": before,
            "loss_after": after,
            "validation_loss": metrics.get("val/loss"),
            "seconds": round(seconds, 1),
            "measured": {**measured, **report},
            "parameters": sum(each.numel() for each in self.module.parameters() if each.requires_grad),
        }

    def _ended_by(self) -> str | None:
        """What ended the stage before all planned steps were taken."""
        if self.steps_taken >= self.recipe.planned_steps:
            return None
        names = [type(each).__name__ for each in self.trainer.callbacks if isinstance(each, EarlyStopping | EndNow)]
        return "`melody-cm finish`" if "EndNow" in names else (names or ["a callback"])[0]


class EndNow(Callback):
    """Ends a training at its first moment, with all that the end of a training does."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = True


@dataclass(eq=False)
class SameTraining(Callback):
    """Refuses a checkpoint of another training."""

    made_from: Fingerprint  # What this one is made from.
    path: Path  # Of the checkpoint.

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        config = checkpoint.get("configuration") or {"trainer": {}, "data": {}}
        theirs = {**vars(self.made_from), "config": lasting(config)}
        if (changed := self.made_from.differences(theirs)) and not self.made_from.only_wants_more_steps(theirs):
            raise ValueError(
                f"{self.path} is of another training ({'; '.join(changed[:2])}); start anew with --retrain, which "
                "keeps it aside until the stage is finished"
            )


def music_facts(data: MusicDataModule) -> dict[str, Any]:
    """How many clips a training had, and how many of them under which licence, as their rows say."""
    clips = data.split_clips("train")
    licenses = Counter(str(clip.fields.get("license") or "not said") for clip in islice(clips, MOST_ROWS))
    return {"clips": len(clips), "licenses": dict(licenses)}


def max_seconds(trainer: Mapping[str, Any]) -> float:
    """How long a training may take, in the forms of Lightning's `max_time`; infinite where nothing is said. A
    ValueError if it is none of these forms, or below 0."""
    limit = trainer.get("max_time")
    if limit is None:
        return math.inf
    try:
        seconds = float(Timer(limit).time_remaining() or 0)
    except Exception as error:  # Of many kinds.
        raise ValueError(f"trainer.max_time is {limit!r}; give it as DD:HH:MM:SS") from error
    if seconds < 0:
        raise ValueError(f"trainer.max_time is {limit!r}, which is over before it begins; give it as DD:HH:MM:SS")
    return seconds


def build_stage(recipe: Recipe) -> tuple[LightningModule, MusicDataModule]:
    """The LightningModule and the data module of a recipe; sample rate and seed are written once and passed on."""
    seed = recipe.config.get("seed_everything", 0)
    seed_everything(seed, workers=True, verbose=False)
    data = build_data(recipe.config["data"], seed)
    return build_module(recipe), data


def build_module(recipe: Recipe, build: Callable[..., Any] = build) -> LightningModule:
    """The LightningModule of a recipe."""
    model, linked = recipe.config["model"], {"sample_rate": recipe.config["data"]["sample_rate"]}
    linked["seed"] = recipe.config.get("seed_everything", 0)
    arguments = {**linked, **(model.get("init_args") or {})}
    module = build({**model, "init_args": arguments}, LightningModule, LightningModule)
    module.configuration = recipe.config
    return module


def build_trainer(recipe: Recipe, folder: Path, own: list[Any]) -> Trainer:
    """Lightning's trainer with the callbacks and loggers of the recipe beside ours."""
    given = {key: value for key, value in recipe.config["trainer"].items() if key != "max_time"}
    parts = {name: build(given.pop(name, None), None, *LIGHTNING) for name in ("callbacks", "logger", "plugins")}
    # What is best is decided after it was measured, and saved before the state that a resume goes on from.
    callbacks = sorted(_as_list(parts["callbacks"]), key=lambda callback: isinstance(callback, BestCheckpoint))
    if given.get("enable_progress_bar") is False:
        own = [callback for callback in own if not isinstance(callback, StageProgress)]
    board = TensorBoardLogger(folder, "tensorboard", version="")  # Resumes go on in the same curves.
    loggers = [CSVLogger(folder, "logs"), board, *_as_list(parts["logger"])]
    defaults = {"enable_model_summary": False, "num_sanity_val_steps": 0, "val_check_interval": recipe.planned_steps}
    rest = build(given, None, *LIGHTNING)
    if any(getattr(callback, "monitor", None) is not None for callback in callbacks):
        own = [MonitorCheck(), *own]
        rest["num_sanity_val_steps"] = rest.get("num_sanity_val_steps") or 1
    return Trainer(
        **{**defaults, **rest, "enable_progress_bar": False},
        default_root_dir=str(folder),
        logger=False if parts["logger"] is False else loggers,
        callbacks=[*callbacks, *own],
        plugins=[AtomicCheckpointIO(), *_as_list(parts["plugins"])],
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        use_distributed_sampler=False,
        check_val_every_n_epoch=None,
    )


def load_training(recipe: Recipe, folder: Path) -> tuple[LightningModule, MusicDataModule]:
    """A trained stage, in evaluation mode, with the averaged networks that it exported to a folder, and its data."""
    module, data = build_stage(recipe)
    for name, network in module.averaged.items():
        export = folder / "export" / name
        load_weights(network, load_network(export, own=True).state_dict(), str(export))
    return module.eval(), data


def refuse_spoilt(networks: Mapping[str, Network], trainer: Trainer) -> None:
    """Refuse with a ValueError to export a network with weights that are not finite."""
    for slot, network in networks.items():
        for name, value in network.state_dict().items():
            if value.is_floating_point() and not bool(value.isfinite().all()):
                raise ValueError(
                    f"the {slot}'s {name} is not finite after training; {remedy(trainer)} and train this stage with "
                    "--retrain"
                )


def _as_list(value: Any) -> list[Any]:
    if value is None or isinstance(value, bool):
        return []
    return value if isinstance(value, list) else [value]
