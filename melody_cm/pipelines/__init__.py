"""Prompt -> waveform, one file a system."""

from melody_cm.pipelines.editing import EditingPipeline
from melody_cm.pipelines.files import generate_files
from melody_cm.pipelines.growing_wav import stream_wav
from melody_cm.pipelines.melody import MeLoDy
from melody_cm.pipelines.musiccm import MusicCM
from melody_cm.pipelines.musiclm import MusicLM
from melody_cm.pipelines.pretrained import PretrainedPipeline, load
from melody_cm.pipelines.request import AudioPrompt, Request
