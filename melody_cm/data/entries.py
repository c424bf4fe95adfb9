"""The rows of a corpus one by one, so that a bad one does not hide the others."""

from collections.abc import Iterator

from melody_cm.data.clips import Clip, parse_row
from melody_cm.data.formats import DescribedCorpus
from melody_cm.data.manifest import Corpus, FolderCorpus, ManifestCorpus, folder_files, manifest_lines

# A clip, what is wrong with a row, or None for a row that has no sound on purpose.
Entry = Clip | ValueError | None


def corpus_entries(corpus: Corpus) -> Iterator[Entry]:
    """All rows of a corpus in order.

    Raises:
        FileNotFoundError, ValueError: there is no such corpus; or it is of a class that knows no single rows, and one
            of them is bad.
    """
    if isinstance(corpus, ManifestCorpus):
        yield from _manifest_entries(corpus)
    elif isinstance(corpus, FolderCorpus):
        yield from _folder_entries(corpus)
    elif isinstance(corpus, DescribedCorpus):
        yield from corpus.entries()
    else:
        yield from corpus.clips()


def _manifest_entries(corpus: ManifestCorpus) -> Iterator[Entry]:
    for where, line in manifest_lines(corpus.path):
        try:
            yield parse_row(line, corpus.path.parent, where, corpus.default_split, corpus.allow_outside)
        except ValueError as error:
            yield error


def _folder_entries(corpus: FolderCorpus) -> Iterator[Entry]:
    for audio in folder_files(corpus.path):
        try:
            yield corpus.clip(audio)
        except ValueError as error:
            yield error
