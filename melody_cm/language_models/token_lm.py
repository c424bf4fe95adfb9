"""A decoder-only language model over codes: LLaMA from transformers. MeLoDy, arXiv 2305.15719, section 3.1."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from melody_cm.interfaces import TokenLM
from melody_cm.language_models.cached_llama import CachedLlama
from melody_cm.language_models.decoding import check_sampling, draw, probabilities, uniform_rows
from melody_cm.language_models.token_layout import Stream, TokenLayout
from melody_cm.placement import in_fp32


class CausalTokenLM(TokenLM):
    """p(target stream | the streams before it), token by token.

    Only the codebook whose turn it is can come next, and both training and sampling normalize over it alone: other ids
    have probability zero instead of learning to have it. There is no end token: the caller says how long the music is.

    Args:
        streams: in the order of the sequence; the last one is the target.
        width, num_layers, num_heads, feedforward_width: of the transformer (pre-RMSNorm, SwiGLU, rotary positions).
        dropout: of the attention while training; it draws from torch's global generator.
        max_frames: of the target stream, the length that it is trained on; longer music is made window by window.
        checkpointing: keep only what enters each layer for the gradient, and compute the layer anew then: a third more
            time for a fraction of the memory, the same numbers.

    Raises:
        ValueError: a width that the heads do not divide.
    """

    def __init__(
        self,
        streams: list[Stream],
        width: int = 1024,
        num_layers: int = 24,
        num_heads: int = 16,
        feedforward_width: int = 4096,
        dropout: float = 0.0,
        max_frames: int = 250,
        checkpointing: bool = False,
    ) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM  # Two seconds, which MusicCM need not wait for.

        super().__init__()
        if width % (2 * num_heads):
            raise ValueError(
                f"width {width} must be a multiple of 2 x num_heads = {2 * num_heads} (rotary positions turn pairs)"
            )
        self.layout = TokenLayout(streams)
        self.stream_sizes = {stream.name: (stream.num_codebooks, stream.codebook_size) for stream in streams}
        self.frame_rates = {stream.name: stream.frame_rate for stream in streams}
        self.max_frames = max_frames
        self.body = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=self.layout.vocabulary_size,
                hidden_size=width,
                intermediate_size=feedforward_width,
                num_hidden_layers=num_layers,
                num_attention_heads=num_heads,
                attention_dropout=dropout,
                tie_word_embeddings=False,
                bos_token_id=self.layout.bos,
                eos_token_id=None,
                pad_token_id=self.layout.pad,
            )
        )
        if checkpointing:
            old_name = self.body.gradient_checkpointing_enable  # Until transformers 5.2x, which warns of it.
            getattr(self.body, "activation_checkpointing_enable", old_name)({"use_reentrant": False})
        self.decoder = CachedLlama(self.body.model)

    @property
    def pass_module(self) -> nn.Module:
        return self.decoder

    def logits(self, streams: Mapping[str, Int[Tensor, "b _ _"]]) -> Float[Tensor, "b m vocabulary"]:
        """Next-token logits of the target's m = l * q tokens, given everything before each; -inf at illegal ids.

        Raises:
            ValueError: streams, codebooks or codes that are not the layout's, or more than `max_frames` frames.
        """
        hidden = self._target_hidden(streams)
        legal = self.layout.legal(self.layout.target.name, hidden.shape[1]).to(hidden.device)
        return self.body.lm_head(hidden).masked_fill(~legal, -torch.inf)

    def loss(self, streams: Mapping[str, Int[Tensor, "b _ _"]]) -> Float[Tensor, ""]:
        """The mean cross-entropy of the target's tokens (nats a token), fp32.

        Raises:
            ValueError: as `logits`.
        """
        count = self.layout.target.num_codebooks
        hidden = self._target_hidden(streams).unflatten(1, (-1, count))
        codes = streams[self.layout.target.name]
        # One codebook at a time: at paper size that is a thirteenth of the memory of the whole vocabulary's logits.
        losses = [
            F.cross_entropy(F.linear(hidden[:, :, q], self._head(q)).float().flatten(0, 1), codes[:, q].flatten())
            for q in range(count)
        ]
        return torch.stack(losses).mean()

    @torch.no_grad()
    def extend(
        self,
        prompt: Mapping[str, Int[Tensor, "b _ _"]],
        codes: Int[Tensor, "_ q _"],
        length: int,
        generators: Sequence[torch.Generator],
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
    ) -> Int[Tensor, "b q l"]:
        """The `length` frames of the target after `codes`; one network call a token, each over one token but the first.

        Args:
            prompt: codes of all streams before the target.
            codes: of the target so far; all but the last `max_frames - length` frames are forgotten.

        Raises:
            ValueError: as `logits`; also a number of generators other than b, or settings that are none.
        """
        check_sampling(temperature, top_k, top_p)
        target = self.layout.target
        tokens = self._given_tokens(prompt, codes, length, len(generators))
        uniform = uniform_rows(generators, length * target.num_codebooks).to(tokens.device)
        heads = [self._head(codebook).float() for codebook in range(target.num_codebooks)]
        drawn: list[Tensor] = []
        with in_fp32(tokens.device):  # Autocast would halve what lies between the products.
            past = self.decoder.begin(len(tokens), tokens.shape[1] + uniform.shape[1] - 1, self.quantization)
            for step in range(uniform.shape[1]):
                codebook = step % target.num_codebooks
                logits = F.linear(self.decoder(tokens, past), heads[codebook])
                code = draw(probabilities(logits, temperature, top_k, top_p), uniform[:, step])
                tokens = (code + self.layout.ids(target.name, codebook).start)[:, None]
                drawn.append(tokens)
        return self.layout.codes(target.name, torch.cat(drawn, dim=1))

    def _given_tokens(
        self, prompt: Mapping[str, Tensor], codes: Tensor, length: int, batch_size: int
    ) -> Int[Tensor, "b n"]:
        if not 1 <= length <= self.max_frames:
            raise ValueError(
                f"{length} frames asked for, but the model makes 1 to max_frames = {self.max_frames} at a time; "
                "make longer music window by window (`sample_long`)"
            )
        past = min(codes.shape[2], self.max_frames - length)
        streams = {**prompt, self.layout.target.name: codes[..., codes.shape[2] - past :]}
        for name, given in streams.items():
            if len(given) != batch_size:
                raise ValueError(f"{batch_size} generators for {len(given)} rows of {name!r}; give one generator a row")
        return self.layout.sequence(streams)

    def _target_hidden(self, streams: Mapping[str, Tensor]) -> Float[Tensor, "b m d"]:
        """The hidden state before each token of the target."""
        tokens = self.layout.sequence(streams)
        codes = streams[self.layout.target.name]
        if not 1 <= codes.shape[2] <= self.max_frames:
            raise ValueError(
                f"{codes.shape[2]} frames of {self.layout.target.name!r}, but the model takes 1 to max_frames = "
                f"{self.max_frames}; shorten the clips or raise max_frames"
            )
        hidden = self.body.model(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state
        return hidden[:, -codes.shape[1] * codes.shape[2] :]

    def _head(self, codebook: int) -> Float[Tensor, "v d"]:
        """The rows of the output matrix that one codebook of the target needs."""
        return self.body.lm_head.weight[self.layout.ids(self.layout.target.name, codebook)]
