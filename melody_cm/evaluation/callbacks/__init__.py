"""What looks and listens at a training every n steps; written inline into a recipe's `trainer.callbacks`."""

from melody_cm.evaluation.callbacks.audio_samples import AudioSamplesCallback
from melody_cm.evaluation.callbacks.measures import FrechetAudioDistanceCallback, RetrievalCallback, SISNRCallback
