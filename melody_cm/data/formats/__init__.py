"""Tables of other collections, read as rows of a manifest: one function a format."""

from melody_cm.data.formats.captioned import csv_table, musiccaps, song_describer
from melody_cm.data.formats.tables import Rows
from melody_cm.data.formats.tagged import audiocraft, fma, jamendo

FORMATS = {
    "csv": csv_table,
    "audiocraft": audiocraft,
    "musiccaps": musiccaps,
    "song-describer": song_describer,
    "fma": fma,
    "jamendo": jamendo,
}
