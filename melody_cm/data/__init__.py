"""Captioned music: sound files, manifests, procedural and rendered music, splits, batches."""

import importlib
from typing import Any

from melody_cm.data.audio_files import (
    AudioInfo,
    AudioProblem,
    audio_info,
    read_audio,
    scan_audio,
    stream_audio,
    write_audio,
)
from melody_cm.data.check import CorpusReport, check_corpus
from melody_cm.data.clips import OTHER_NAMES, SPLITS, Clip, Split, read_split
from melody_cm.data.dataset import MusicDataset, collate
from melody_cm.data.duplicates import DuplicateReport, find_duplicates
from melody_cm.data.fluidsynth import FluidSynth, MidiProblem
from melody_cm.data.importing import ImportReport, import_corpus
from melody_cm.data.manifest import Corpus, FolderCorpus, ManifestCorpus, open_corpus
from melody_cm.data.order import TrainingOrder
from melody_cm.data.rendering import RenderReport, render_manifest
from melody_cm.data.splitting import SplitReport, split_manifest
from melody_cm.data.synthetic import SyntheticCorpus, write_corpus
from melody_cm.data.texts import read_prompts


def __getattr__(name: str) -> Any:
    """What trains, imported when it is asked for, because Lightning takes its time."""
    if name != "MusicDataModule":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.datamodule").MusicDataModule
