"""What looks and listens at a training every n steps; written inline into a recipe's `trainer.callbacks`."""

from melody_cm.evaluation.callbacks.audio_samples import AudioSamplesCallback
from melody_cm.evaluation.callbacks.frechet import FrechetAudioDistanceCallback
from melody_cm.evaluation.callbacks.retrieval import RetrievalCallback
from melody_cm.evaluation.callbacks.si_snr import SISNRCallback

__all__ = ["AudioSamplesCallback", "FrechetAudioDistanceCallback", "RetrievalCallback", "SISNRCallback"]
