"""Captions for music that has tags only."""

from collections.abc import Iterable
from typing import Any


def tag_captions(*captions: str | None) -> dict[str, Any]:
    """The caption fields of a row whose captions were put together from its tags, which `caption_from` says."""
    texts = list(dict.fromkeys(caption for caption in captions if caption))
    return {"caption": texts[0] if texts else None, "alt_captions": texts[1:], "caption_from": "tags"}


def comma_list(tags: Iterable[str]) -> str:
    """Tags as one line, each once."""
    return ", ".join(dict.fromkeys(tag.strip() for tag in tags if tag.strip()))
