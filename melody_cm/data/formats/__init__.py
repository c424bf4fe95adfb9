"""Readers of other collections' formats, a class each; all fill the `corpus` slot."""

from melody_cm.data.formats.audiocraft import AudioCraftCorpus
from melody_cm.data.formats.csv_manifest import CsvCorpus
from melody_cm.data.formats.described import DescribedCorpus
from melody_cm.data.formats.fma import FmaCorpus
from melody_cm.data.formats.jamendo import JamendoCorpus
from melody_cm.data.formats.musiccaps import MusicCapsCorpus
from melody_cm.data.formats.song_describer import SongDescriberCorpus

__all__ = [
    "AudioCraftCorpus",
    "CsvCorpus",
    "DescribedCorpus",
    "FmaCorpus",
    "JamendoCorpus",
    "MusicCapsCorpus",
    "SongDescriberCorpus",
]
