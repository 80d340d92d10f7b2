"""A collection of tracks as a `datasets` builder: a row a track, its labels whole, its split by artist and sound."""

import hashlib
from collections.abc import Iterator
from typing import Any

import datasets

from descant.data.tracks.track import Track, TrackCorpus

COLUMNS = {
    "id": datasets.Value("string"),
    "audio_file": datasets.Value("string"),  # the bare name; sound is never part of the dataset
    "artist": datasets.Value("string"),
    "genre": datasets.Value("string"),
    "subgenres": datasets.LargeList(datasets.Value("string")),
    "language": datasets.Value("string"),
    "split": datasets.Value("string"),
}
LYRICS_COLUMN = {"lyrics": datasets.Value("string")}


class TrackRowsBuilder(datasets.GeneratorBasedBuilder):
    """Rows of a corpus whose tracks all have a split.

    Args:
        corpus: what `load_tracks` and `split_corpus` give.
        include_lyrics: also write the lyrics. They are their authors': a dataset with them stays on this machine.
    """

    VERSION = datasets.Version("1.0.0")

    def __init__(
        self, *, corpus: TrackCorpus, include_lyrics: bool = False, hash: str | None = None, **kwargs: Any
    ) -> None:
        self.corpus = corpus
        self.row_columns = COLUMNS | (LYRICS_COLUMN if include_lyrics else {})
        super().__init__(hash=self._hash_rows(hash or ""), **kwargs)

    def _hash_rows(self, given: str) -> str:
        digest = hashlib.sha256(given.encode())
        for track in self.corpus.tracks:
            digest.update(repr(_row(track, self.row_columns)).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:32]

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            features=datasets.Features(self.row_columns), description=self.__doc__ or "", license=self.corpus.licence
        )

    def _split_generators(self, dl_manager: datasets.DownloadManager) -> list[datasets.SplitGenerator]:
        names = dict.fromkeys(track.split for track in self.corpus.tracks)
        return [datasets.SplitGenerator(name=name, gen_kwargs={"split": name}) for name in names]

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, track in enumerate(self.corpus.split(split)):
            yield number, _row(track, self.row_columns)


def _row(track: Track, columns: dict[str, Any]) -> dict[str, Any]:
    fields = {
        "id": track.track_id, "audio_file": track.audio.name if track.audio else None, "artist": track.artist,
        "genre": track.genre, "subgenres": list(track.subgenres), "language": track.language, "split": track.split,
        "lyrics": track.lyrics,
    }  # fmt: skip
    return {name: fields[name] for name in columns}
