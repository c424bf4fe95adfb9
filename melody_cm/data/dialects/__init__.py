"""Readers of other collections' formats, a class each; all fill the `corpus` slot."""

from melody_cm.data.dialects.audiocraft import AudioCraftCorpus
from melody_cm.data.dialects.csv_manifest import CsvCorpus
from melody_cm.data.dialects.described import DescribedCorpus
from melody_cm.data.dialects.fma import FmaCorpus
from melody_cm.data.dialects.jamendo import JamendoCorpus
from melody_cm.data.dialects.musiccaps import MusicCapsCorpus
from melody_cm.data.dialects.song_describer import SongDescriberCorpus

__all__ = [
    "AudioCraftCorpus",
    "CsvCorpus",
    "DescribedCorpus",
    "FmaCorpus",
    "JamendoCorpus",
    "MusicCapsCorpus",
    "SongDescriberCorpus",
]
