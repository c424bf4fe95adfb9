"""Texts of every kind for every joint embedding: an error for empty ones, a vector for all others, no crash."""

import logging

import pytest
import torch
from public_folders import write_ast, write_bert, write_clap
from test_joint import tiny
from tokenizers import Tokenizer, models, pre_tokenizers

from melody_cm.encoders import ClapJointEmbedding, PretrainedTwoTowerEmbedding
from melody_cm.nn.texts import WordTokens, refuse_empty

LONG = ["x" * 10_000, "word " * 2_500, "é" * 300]
ODD = [*LONG, "piano 钢琴 рояль بيانو", "🎹🎻 slow", "\x00", "a\x00b", "\udcff", "?!…", "\u200f"]
KINDS = ("two_tower", "two_tower_pretrained", "clap")


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("public")
    write_ast(folder / "ast")
    write_bert(folder / "bert")
    write_clap(folder / "clap")
    pretrained = PretrainedTwoTowerEmbedding(
        str(folder / "ast"), str(folder / "bert"), window_seconds=0.6, width=24, max_text_tokens=20
    )
    return {"two_tower": tiny(), "two_tower_pretrained": pretrained, "clap": ClapJointEmbedding(str(folder / "clap"))}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_any_text_has_a_unit_vector_of_its_own(embeddings, kind, text):
    alone, together = embeddings[kind].embed_text([text]), embeddings[kind].embed_text([text, "slow piano waltz"])
    torch.testing.assert_close(together.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("empty", ["", "   ", "\n\t"])
def test_an_empty_text_is_refused_by_its_number(embeddings, kind, empty):
    with pytest.raises(ValueError, match="text 2 of 3 is empty and has no embedding; give every prompt"):
        embeddings[kind].embed_text(["waltz", empty, "piano"])


@pytest.mark.parametrize(
    ("kind", "length", "limit"),
    [("two_tower", "10000 bytes", 64), ("two_tower_pretrained", "5002 tokens", 20), ("clap", "10000 tokens", 22)],
)
def test_a_text_that_is_cut_is_told_once_with_both_lengths(embeddings, kind, length, limit, caplog):
    embedding = embeddings[kind]
    embedding.tokens.warn.given = False
    with caplog.at_level(logging.WARNING):
        embedding.embed_text(["a"])
        assert not caplog.messages
        for _ in range(3):
            embedding.embed_text(["a " * 5000, "b"])
    assert caplog.messages == [f"a text of {length} is read to its first {limit} only"]
    assert torch.equal(embedding.embed_text(["a " * 5000]), embedding.embed_text(["a " * 4000]))


def test_ids_and_mask_are_those_of_the_texts_alone():
    words = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "slow": 2, "waltz": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokens = WordTokens(words.to_str(), pad_id=0, max_tokens=3)
    ids, mask = tokens(["slow waltz", "tango", "waltz waltz slow slow slow"])
    assert ids.tolist() == [[2, 3, 0], [1, 0, 0], [3, 3, 2]]
    assert mask.tolist() == [[1, 1, 0], [1, 0, 0], [1, 1, 1]]


def test_texts_with_words_pass():
    refuse_empty(["a", " b ", "\x00"])
