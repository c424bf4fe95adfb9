"""One stage under LightningCLI: parse, build, fit or resume, export, declare finished."""

import copy
import math
import re
import time
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from melody_cm.cli.finished import Fingerprint, write_finished
from melody_cm.cli.recipe import Recipe, planned_steps
from melody_cm.data import MusicDataModule
from melody_cm.data.encoded import encoded_folder, find_encoded, frozen_outputs
from melody_cm.interfaces import Network
from melody_cm.storage import build, current_run, save_network, write_json, write_text
from melody_cm.storage.export import load_weights
from melody_cm.training.best_checkpoint import BestCheckpoint
from melody_cm.training.lifecycle import AtomicCheckpointIO, LastCheckpoint, LossTrace, StageProgress


class StageCLI(LightningCLI):
    """LightningCLI over one composed recipe.

    Args:
        recipe: what to parse.
        folder: of the stage: logs, checkpoint, export.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe = recipe
        self.folder = folder
        super().__init__(
            LightningModule,
            MusicDataModule,
            subclass_mode_model=True,
            run=False,
            save_config_callback=None,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_kwargs={"exit_on_error": False},
            args=copy.deepcopy(recipe.config),  # The parser turns parts of it into its own types.
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.link_arguments("data.sample_rate", "model.init_args.sample_rate")
        parser.link_arguments("seed_everything", "model.init_args.seed")
        parser.link_arguments("seed_everything", "data.seed")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        steps = planned_steps(self.recipe)
        logged = max(1, steps // (self.config["trainer"]["log_every_n_steps"] or 50))  # 50 is Lightning's default.
        self.trace = LossTrace(span=max(1, min(20, logged // 5)))
        self.checkpoint = LastCheckpoint(self.folder / "last.ckpt", every_n_steps=max(1, min(500, steps // 4)))
        config = self.config_init["trainer"]
        # What is best is decided after it was measured, and saved before the state that a resume goes on from.
        given = sorted(config["callbacks"] or [], key=lambda callback: isinstance(callback, BestCheckpoint))
        own = [self.trace, StageProgress(self.recipe.name, steps), self.checkpoint]
        return super().instantiate_trainer(
            default_root_dir=str(self.folder),
            logger=[CSVLogger(self.folder, "logs"), TensorBoardLogger(self.folder, "tensorboard")],
            callbacks=[*given, *own],
            plugins=[AtomicCheckpointIO()],
            enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in given),
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            check_val_every_n_epoch=None,
            val_check_interval=self.config["trainer"]["val_check_interval"] or steps,
            num_sanity_val_steps=0,
        )


def build_data(config: dict[str, Any]) -> MusicDataModule:
    """The data module that a recipe describes, outside a training."""
    return MusicDataModule(**{**config, "corpus": build(config["corpus"])})


def train_stage(recipe: Recipe, folder: Path, made_from: Fingerprint) -> tuple[dict[str, Any] | None, bool]:
    """Train or resume one stage and leave its export and finished.json.

    Returns:
        the outcome (steps, loss before and after, seconds), or None if a signal interrupted it; and whether a signal
        came at all, even too late to interrupt.
    """
    try:
        cli = StageCLI(recipe, folder)
    except Exception as error:
        raise ValueError(f"{recipe.name}: {root_cause(error)}") from error
    cli.model.configuration = recipe.config
    read_encoded(cli)
    if cli.trainer.is_global_zero:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "config.yaml", yaml.safe_dump(recipe.config, sort_keys=False))
        write_json(folder / "begun.json", vars(made_from))
    started = time.monotonic()
    last = folder / "last.ckpt"
    try:
        cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=str(last) if last.is_file() else None)
    except SystemExit as error:  # What Lightning makes of Ctrl-C outside the steps.
        raise KeyboardInterrupt from error
    if cli.checkpoint.interrupted:
        return None, True
    refuse_spoilt(cli.model.exports)
    outcome = _outcome(cli, time.monotonic() - started)
    cli.trainer.save_checkpoint(last)
    if cli.trainer.is_global_zero:
        for name, network in cli.model.exports.items():
            save_network(network, folder / "export" / name)
        export_best(cli, folder)
        write_finished(folder, made_from, outcome)
    cli.trainer.strategy.barrier("stage finished")
    return outcome, cli.checkpoint.signalled


def read_encoded(cli: StageCLI) -> None:
    """Let the loaders read what `melody-cm data encode` left in the run, if anything."""
    data, name = cli.datamodule, cli.recipe.name
    folder = encoded_folder(current_run(), cli.recipe.config["data"])
    try:
        data.encoded = find_encoded(folder, cli.model, data.sample_rate, data.fingerprint)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if data.encoded is not None:
        beside = ", and waveforms" if data.encoded.reads_waveform else ""
        cli.trainer.print(f"{name}: reads encoded {', '.join(each.name for each in data.encoded.outputs)}{beside}")
    elif folder.parent.is_dir() and frozen_outputs(cli.model, data.sample_rate):
        cli.trainer.print(f"{name}: nothing whole is encoded for its encoders, corpus, rate and length; encodes anew")


def export_best(cli: StageCLI, folder: Path) -> None:
    """Write the networks of `best.ckpt`, if there is one, beside those of the last step."""
    if not (folder / "best.ckpt").is_file():
        return
    checkpoint = AtomicCheckpointIO().load_checkpoint(folder / "best.ckpt")
    load_weights(cli.model, checkpoint["state_dict"], "best.ckpt")
    cli.model.on_train_end()  # It was saved before what the end of a training adds.
    for name, network in cli.model.exports.items():
        save_network(network, folder / "best" / name)


def root_cause(error: BaseException) -> str:
    """What went wrong first: the parser wraps the messages of constructors in its own, page by page."""
    key = re.search(r'[Kk]ey "([\w.]+)"', str(error))
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"{key[1]}: {reason}" if key else reason


def refuse_spoilt(networks: dict[str, Network]) -> None:
    """Refuse to export a network with weights that are not finite."""
    for slot, network in networks.items():
        for name, value in network.state_dict().items():
            if value.is_floating_point() and not bool(value.isfinite().all()):
                raise ValueError(
                    f"the {slot}'s {name} is not finite after training; lower model.optimization.learning_rate and "
                    "train this stage with --retrain"
                )


def _outcome(cli: StageCLI, seconds: float) -> dict[str, Any]:
    before, after = getattr(cli.model, "outcome", None) or cli.trace.movement or (None, None)
    valid = cli.trainer.callback_metrics.get("val/loss")
    metrics = {key: float(value) for key, value in cli.trainer.callback_metrics.items() if key.startswith("val/")}
    measured = {key: value for key, value in metrics.items() if math.isfinite(value)}  # JSON knows no others.
    return {
        "size": cli.recipe.size,
        "steps": planned_steps(cli.recipe),
        "loss_before": before,
        "loss_after": after,
        "validation_loss": None if valid is None else float(valid),
        "seconds": round(seconds, 1),
        "measured": {**measured, **getattr(cli.model, "report", {})},
        "parameters": sum(parameter.numel() for parameter in cli.model.parameters() if parameter.requires_grad),
    }
