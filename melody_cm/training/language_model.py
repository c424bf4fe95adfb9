"""Language models over codes: next-token cross-entropy on the target stream (arXiv 2305.15719, section 3.1).

MusicLM's coarse and fine models learn in the same way (arXiv 2301.11325, section 3.2).
"""

from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from melody_cm.batch import MusicBatch
from melody_cm.interfaces import Tokenizer, TokenLM
from melody_cm.training.optimization import Optimization
from melody_cm.training.stage import Networks, Stage


class LanguageModelTraining(Stage):
    """Trains p(target codes | codes of the streams before), each stream's codes from the tokenizer of its name.

    Beside `val/loss` (nats a token) it logs `val/unigram_nll`: what the held-back codes cost under their frequencies in
    the music seen so far. A language model that learned more than those is below it.

    Args:
        language_model: learns; its last stream is the target.
        prompt: tokenizer of the stream "prompt" (RVQ of the joint embedding of the audio, as in the papers: text comes
            in only when music is generated).
        semantic, coarse, fine: tokenizers of the streams of these names; None where the model has no such stream.
        text_share: the share of the captioned clips that learn from the codes of their caption instead, so that the
            model learns how texts differ from their music. Our addition: the papers have 0, and better embeddings.

    Raises:
        ValueError: a stream without tokenizer, a tokenizer without stream, or codebooks, codes or a frame rate of a
            tokenizer that are not its stream's; a text_share outside [0, 1], or above 0 with a prompt tokenizer that
            takes no texts.
    """

    reads_waveform = False

    def __init__(
        self,
        language_model: TokenLM,
        optimization: Optimization,
        prompt: Tokenizer | None = None,
        semantic: Tokenizer | None = None,
        coarse: Tokenizer | None = None,
        fine: Tokenizer | None = None,
        text_share: float = 0.0,
        ema_decay: float = 0.999,
        sample_rate: int = 24000,
        seed: int = 0,
    ) -> None:
        super().__init__({"language_model": language_model}, optimization, ema_decay, sample_rate, seed)
        slots = {"prompt": prompt, "semantic": semantic, "coarse": coarse, "fine": fine}
        self.tokenizers = torch.nn.ModuleDict({name: each for name, each in slots.items() if each is not None})
        self.check_sample_rates()
        check_streams(language_model, dict(self.tokenizers.items()))
        self.target = list(language_model.stream_sizes)[-1]
        self.text_share = check_text_share(text_share, prompt)
        self.unigrams = UnigramModel(*language_model.stream_sizes[self.target])

    def losses(self, networks: Networks, batch: MusicBatch) -> dict[str, Tensor]:
        return {"cross_entropy": networks["language_model"].loss(self.streams(batch))}

    @torch.no_grad()
    def streams(self, batch: MusicBatch) -> dict[str, Int[Tensor, "b _ _"]]:
        """The codes of each stream, from the batch where `with_streams` put them, else from the tokenizers."""
        known = batch.codes
        codes = {name: known[name] if name in known else each(batch) for name, each in self.tokenizers.items()}
        if self.text_share and "prompt" not in known:
            codes["prompt"] = self.prompts_of_text(batch, codes["prompt"])
        return codes

    def prompts_of_text(self, batch: MusicBatch, codes: Int[Tensor, "b q 1"]) -> Int[Tensor, "b q 1"]:
        """The prompt codes of a batch, `text_share` of them of the captions instead of the audio."""
        drawn = (batch.draws(self.seed).uniform("prompt of text") < self.text_share).tolist()
        pairs = zip(drawn, batch.captions, strict=True)
        rows = [row for row, (text, caption) in enumerate(pairs) if text and caption.strip()]
        if not rows:
            return codes
        tokenizer = self.tokenizers["prompt"]
        of_text = tokenizer.quantize(tokenizer.text_features([batch.captions[row] for row in rows]))
        return codes.index_copy(0, torch.tensor(rows).to(codes.device), of_text)

    def with_streams(self, batch: MusicBatch) -> MusicBatch:
        """The same batch, its codes made once for all that want them."""
        return replace(batch, codes=batch.codes | self.streams(batch))

    def training_step(self, batch: MusicBatch, batch_idx: int) -> Tensor:
        batch = self.with_streams(batch)
        codes = batch.codes[self.target]
        if self.trainer.world_size > 1:
            codes = rearrange(self.all_gather(codes), "r b q l -> (r b) q l")
        self.unigrams.count(codes)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: MusicBatch, batch_idx: int) -> None:
        batch = self.with_streams(batch)
        super().validation_step(batch, batch_idx)
        surprise = self.unigrams.surprise(batch.codes[self.target])
        self.log("val/unigram_nll", surprise, batch_size=len(batch), sync_dist=True, on_epoch=True)


def check_streams(language_model: TokenLM, tokenizers: dict[str, Tokenizer]) -> None:
    """Refuse with a ValueError tokenizers whose names, codebooks, codes or frame rates are not those of a language
    model's streams."""
    if set(tokenizers) != set(language_model.stream_sizes):
        raise ValueError(
            f"there are tokenizers for {sorted(tokenizers)} but the language model has the streams "
            f"{sorted(language_model.stream_sizes)}; give one tokenizer for each stream"
        )
    for name, tokenizer in tokenizers.items():
        given, expected = (tokenizer.num_codebooks, tokenizer.codebook_size), language_model.stream_sizes[name]
        if given != expected:
            raise ValueError(
                f"the {name} tokenizer has {given[0]} codebooks of {given[1]} codes but the language model's "
                f"stream {name} has {expected[0]} of {expected[1]}; set model.language_model.streams to match"
            )
        rate = language_model.frame_rates[name]
        if rate is not None and rate != tokenizer.frame_rate:
            raise ValueError(
                f"the {name} tokenizer makes {tokenizer.frame_rate:g} frames a second but the language model's "
                f"stream {name} has {rate:g}; set model.language_model.streams to match"
            )


def check_text_share(share: float, tokenizer: Tokenizer | None) -> float:
    """The share, unless a ValueError says what is wrong with it."""
    if not 0 <= share <= 1:
        raise ValueError(f"text_share is {share:g}, but it is a share of the clips; give 0 to 1")
    if share and not hasattr(tokenizer, "text_features"):
        raise ValueError(
            f"text_share is {share:g}, but {type(tokenizer).__name__} makes no codes of texts; "
            "give a prompt tokenizer that has text_features, such as ResidualKMeans, or text_share 0"
        )
    return share


class UnigramModel(nn.Module):
    """How often each code of each codebook was seen, as a model of codes; every code counts one more than it was seen,
    so that an unseen one has a price too."""

    counts: Tensor

    def __init__(self, num_codebooks: int, codebook_size: int) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(num_codebooks, codebook_size, dtype=torch.long))

    def count(self, codes: Int[Tensor, "b q l"]) -> None:
        """Take codes into account."""
        for counts, seen in zip(self.counts, codes.unbind(1), strict=True):
            counts += torch.bincount(seen.flatten(), minlength=len(counts))

    def surprise(self, codes: Int[Tensor, "b q l"]) -> Float[Tensor, ""]:
        """The mean negative log-likelihood of codes (nats a code)."""
        shares = (self.counts + 1) / (self.counts + 1).sum(dim=1, keepdim=True)
        prices = -shares.log()
        return torch.stack([price[seen] for price, seen in zip(prices, codes.unbind(1), strict=True)]).mean()
