"""Language models over codes: next-token cross-entropy on the target stream (arXiv 2305.15719, section 3.1)."""

import torch
from torch import Tensor

from melody_cm.batch import MusicBatch
from melody_cm.interfaces import Tokenizer, TokenLM
from melody_cm.training.optimization import Optimization
from melody_cm.training.stage import Networks, Stage


class LanguageModelTraining(Stage):
    """Trains p(target codes | prompt codes).

    Args:
        language_model: learns; its streams are "prompt" and "semantic".
        prompt: tokenizer of what is given (RVQ of the joint embedding of the audio, as in the paper: text comes in only
            when music is generated).
        target: tokenizer of what is to be predicted.

    Raises:
        ValueError: a tokenizer does not fit its stream.
    """

    reads_waveform = False

    def __init__(
        self,
        language_model: TokenLM,
        prompt: Tokenizer,
        target: Tokenizer,
        optimization: Optimization,
        ema_decay: float = 0.999,
        sample_rate: int = 24000,
        seed: int = 0,
    ) -> None:
        super().__init__({"language_model": language_model}, optimization, ema_decay, sample_rate, seed)
        self.prompt = prompt
        self.target = target
        self._check_sample_rates()
        for name, tokenizer in (("prompt", prompt), ("semantic", target)):
            given, expected = (tokenizer.num_codebooks, tokenizer.codebook_size), language_model.stream_sizes[name]
            if given != expected:
                raise ValueError(
                    f"the {name} tokenizer has {given[0]} codebooks of {given[1]} codes but the language model's "
                    f"stream {name} has {expected[0]} of {expected[1]}; set model.language_model.streams to match"
                )

    def losses(self, networks: Networks, batch: MusicBatch) -> dict[str, Tensor]:
        with torch.no_grad():
            streams = {"prompt": self.prompt(batch), "semantic": self.target(batch)}
        return {"cross_entropy": networks["language_model"].loss(streams)}
