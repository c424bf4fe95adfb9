"""Metrics: how near generated music is to real music, and decoded audio to its target."""

from melody_cm.evaluation.clips import embed, find_clips
from melody_cm.evaluation.coherence import (
    Agreement,
    chroma_agreement,
    diversity,
    seam_ratio,
    segment_similarity,
    segment_vectors,
    tempo_agreement,
    waveform_seam_ratio,
)
from melody_cm.evaluation.folders import evaluate
from melody_cm.evaluation.forward_passes import PassCounter, melody_passes, musiccm_passes, musiclm_passes
from melody_cm.evaluation.frechet import clip_distance, frechet_distance, frechet_infinity, frechet_score
from melody_cm.evaluation.judge import Judge, load_embedding
from melody_cm.evaluation.kernel import kernel_score
from melody_cm.evaluation.memorization import memorization
from melody_cm.evaluation.reference import FadtkFile, cached_statistics
from melody_cm.evaluation.retrieval import RetrievalRecall
from melody_cm.evaluation.score import Score, refuse_unlike, unlike_n
from melody_cm.evaluation.si_snr import SISNR, DenoisingScores, denoise_at_every_angle, si_snr
from melody_cm.evaluation.statistics import EmbeddingStatistics, Gaussian
from melody_cm.evaluation.text_correlation import text_correlation
from melody_cm.evaluation.uncertainty import holm, mean_interval
