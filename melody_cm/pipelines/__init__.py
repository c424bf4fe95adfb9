"""Prompt -> waveform, one file a system."""

from melody_cm.pipelines.melody import MeLoDy
from melody_cm.pipelines.musiccm import MusicCM
from melody_cm.pipelines.pretrained import PretrainedPipeline

__all__ = ["MeLoDy", "MusicCM", "PretrainedPipeline"]
