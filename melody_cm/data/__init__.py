"""Captioned music: sound files, manifests, procedural music, batches."""

from melody_cm.data.audio_files import AudioInfo, AudioProblem, audio_info, read_audio, write_audio
from melody_cm.data.check import CorpusReport, check_corpus
from melody_cm.data.clips import SPLITS, Clip, Split
from melody_cm.data.datamodule import MusicDataModule
from melody_cm.data.dataset import MusicDataset, collate
from melody_cm.data.manifest import Corpus, FolderCorpus, ManifestCorpus, open_corpus
from melody_cm.data.order import EvaluationOrder, TrainingOrder
from melody_cm.data.synthetic import SyntheticCorpus, write_corpus

__all__ = [
    "SPLITS",
    "AudioInfo",
    "AudioProblem",
    "Clip",
    "Corpus",
    "CorpusReport",
    "EvaluationOrder",
    "FolderCorpus",
    "ManifestCorpus",
    "MusicDataModule",
    "MusicDataset",
    "Split",
    "SyntheticCorpus",
    "TrainingOrder",
    "audio_info",
    "check_corpus",
    "collate",
    "open_corpus",
    "read_audio",
    "write_audio",
    "write_corpus",
]
