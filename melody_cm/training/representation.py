"""Self-supervised learning of music: wav2vec 2.0's masked contrastive task (arXiv 2006.11477; MeLoDy, appendix B.2)."""

from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.encoders.masked_prediction import MaskedPrediction, Prediction, draw_mask, draw_negatives
from melody_cm.encoders.semantic import Wav2Vec2ConformerEncoder
from melody_cm.interfaces import Network
from melody_cm.nn.shared_statistics import share_batch_norms
from melody_cm.training.optimization import Optimization
from melody_cm.training.stage import Networks, Stage

SMALLEST_UNIFORM = 2.0**-25  # Half of the generator's step: Gumbel noise stays finite.


class RepresentationLearning(Stage):
    """Hides spans of frames and trains the encoder to tell their quantized features from those of other hidden frames.

    Masks, negatives and the quantizer's noise are keyed by clip, so that a resumed training goes on exactly. Batch
    normalization, which Conformer blocks have, sees the batch of all processes.

    Args:
        semantic_encoder: learns.
        heads: learn with it and are exported beside it, for a look at the quantizer; later stages need the encoder
            alone.
        mask_share: spans that begin, as a share of the frames; 0.08 x 8 frames hide about half of a clip.
        mask_span: length of a span, frames.
        num_negatives: for each hidden frame, from its own clip.
        diversity_weight: of (G V - perplexity) / (G V), with perplexity summed over G groups of V entries.
        feature_penalty: weight of the mean square of the convolutions' features, which else grow without bound.
        feature_gradient_scale: of what the convolutions learn by; both are of wav2vec 2.0's own code, not its paper.
        gumbel_temperatures: of the quantizer at first and at last.
        gumbel_decay: factor from one step to the next between them.

    Logged as well: `contrastive_accuracy`, how often the true frame is the nearest of 1 + num_negatives (chance: 1 in
    as many), and `code_perplexity`, at most G V.

    Raises:
        ValueError: heads of other widths than the encoder's, or numbers out of their ranges.
    """

    def __init__(
        self,
        semantic_encoder: Wav2Vec2ConformerEncoder,
        heads: MaskedPrediction,
        optimization: Optimization,
        mask_share: float = 0.08,
        mask_span: int = 8,
        num_negatives: int = 100,
        diversity_weight: float = 0.1,
        feature_penalty: float = 10.0,
        feature_gradient_scale: float = 0.1,
        gumbel_temperatures: tuple[float, float] = (2.0, 0.5),
        gumbel_decay: float = 0.999995,
        ema_decay: float = 0.999,
        sample_rate: int = 24000,
        seed: int = 0,
    ) -> None:
        widths = {"context_width": semantic_encoder.width, "feature_width": semantic_encoder.conv_width}
        for name, width in widths.items():
            if (given := heads.init_arguments[name]) != width:
                raise ValueError(f"the heads' {name} {given} must be the encoder's, {width}; set it")
        if not 0 < mask_share < 1 or mask_span < 1 or num_negatives < 1:
            raise ValueError(
                f"mask_share {mask_share:g} must be between 0 and 1, mask_span {mask_span} and num_negatives "
                f"{num_negatives} at least 1; use e.g. 0.08, 8 and 100"
            )
        share_batch_norms(semantic_encoder)
        trained: dict[str, Network] = {"semantic_encoder": semantic_encoder, "heads": heads}
        super().__init__(trained, optimization, ema_decay, sample_rate, seed)
        self.mask_share, self.mask_span, self.num_negatives = mask_share, mask_span, num_negatives
        self.diversity_weight, self.feature_penalty = diversity_weight, feature_penalty
        self.feature_gradient_scale = feature_gradient_scale
        self.gumbel_temperatures, self.gumbel_decay = gumbel_temperatures, gumbel_decay

    @property
    def gumbel_temperature(self) -> float:
        """The quantizer's temperature at this step."""
        first, last = self.gumbel_temperatures
        return max(last, first * self.gumbel_decay ** int(self.steps_taken))

    def losses(self, networks: Networks, batch: MusicBatch) -> dict[str, Tensor]:
        found, size = self._predict(networks, batch)
        split = "train" if self.training else "val"
        self.log_dict(
            {f"{split}/contrastive_accuracy": found.accuracy, f"{split}/code_perplexity": found.perplexity.detach()},
            batch_size=len(batch),
            sync_dist=not self.training,
        )
        most = networks["heads"].groups * networks["heads"].entries
        diversity = self.diversity_weight * (most - found.perplexity) / most
        return {"contrastive": found.contrastive, "diversity": diversity, "features": self.feature_penalty * size}

    def _predict(self, networks: Networks, batch: MusicBatch) -> tuple[Prediction, Tensor]:
        encoder, heads = networks["semantic_encoder"], networks["heads"]
        waveform, draws = batch.need_waveform(), batch.draws(self.seed)
        device, length = waveform.device, encoder.num_frames(waveform.shape[-1])
        real = batch.frame_mask[:, :: encoder.frame_samples]
        mask = draw_mask(draws.uniform("mask", (length,), device), real, self.mask_share, self.mask_span)
        negatives = draw_negatives(mask, draws.uniform("negatives", (length, self.num_negatives), device))
        noise = None
        if self.training:
            uniform = draws.uniform("gumbel", (length, heads.groups, heads.entries), device)
            noise = -(-uniform.clamp(min=SMALLEST_UNIFORM).log()).log()
        context, features, size = encoder.masked(waveform, mask, self.feature_gradient_scale)
        return heads(context, features, mask, negatives, noise, self.gumbel_temperature), size
