"""Recordings on their way through captioner and classifier: each becomes a Classification, a bad one its error."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from descant.data.tracks.lyrics_files import find_lyrics, read_lyrics_file
from descant.data.tracks.lyrics_text import Lyrics
from descant.inference.classification import Classification
from descant.inference.classifier import TrackClassifier
from descant.inference.listener import Listener, Recording
from descant.inference.model_folder import ModelFolderError, find_model
from descant.inference.track_hearing import TrackHearing, TrackListener, find_spans, hash_captioner
from descant.inference.track_parts import TrackParts

log = logging.getLogger(__name__)


class Classifying:
    """Iterating gives (number of the recording, its classification), as soon as each is there."""

    def __init__(
        self, classifier: TrackClassifier, recordings: Sequence[Recording], listener: TrackListener | None = None,
        *, lyrics: Path | None = None, explain: bool = True, note: str | None = None,
    ) -> None:  # fmt: skip
        """
        listener: hears the recordings; without one only lyrics are read, and `note` says why.
        lyrics: of the one recording; otherwise they are looked for beside the sound and in its tags.
        """
        self.classifier, self.recordings, self.listener = classifier, recordings, listener
        self.lyrics, self.explain, self.note = lyrics, explain, note

    def __iter__(self) -> Iterator[tuple[int, Classification]]:
        for hearing in self._hear():
            number = int(hearing.track_id)
            yield number, self._classify(self.recordings[number], hearing)

    def _hear(self) -> Iterator[TrackHearing]:
        numbered = [(str(number), recording.path) for number, recording in enumerate(self.recordings)]
        if self.listener is not None:
            yield from self.listener.hear(numbered)
            return
        for number, path in numbered:
            yield TrackHearing(number, error=None if path.is_file() else f"{path}: does not exist")

    def _classify(self, recording: Recording, hearing: TrackHearing) -> Classification:
        captioner = self.listener.listener.name if self.listener else None
        told = {"audio": recording.audio, "model": self.classifier.name, "captioner": captioner}
        if hearing.error is not None:
            return Classification(**told, error=hearing.error.removeprefix(f"{recording.path}: "))
        lyrics = self._find_lyrics(recording)
        track = join_parts(lyrics.text, hearing)
        notes = [*lyrics.notes, *([self.note] if self.note else [])]
        if not track.modalities:
            return Classification(**told, notes=notes, error="; ".join(["there is nothing to go by", *notes]))
        labels, scores = self.classifier.classify(track, self.explain)
        return Classification(**told, labels=labels, scores=scores, read=track.modalities, notes=notes)

    def _find_lyrics(self, recording: Recording) -> Lyrics:
        """Lyrics that cannot be read are a note: the sound is still there."""
        try:
            found = read_lyrics_file(self.lyrics) if self.lyrics else find_lyrics(recording.path)
        except ValueError as error:
            return Lyrics(None, [str(error)])
        return found if found.text or found.notes else Lyrics(None, ["no lyrics were found"])


def join_parts(lyrics: str | None, hearing: TrackHearing) -> TrackParts:
    """A track out of its lyrics and what was heard in it."""
    return TrackParts(lyrics, hearing.said, hearing.window_embeds, find_spans(hearing.said))


def load_captioner(
    classifier: TrackClassifier, source: str | None, batch_size: int = 32
) -> tuple[TrackListener | None, str | None]:
    """What hears for a classifier, and why nothing does where that is so.

    source: a folder or Hub id in place of the captioner that the model was trained with. That one may be gone: then
    lyrics alone are read. One that is asked for must be there.

    Raises:
        ModelFolderError: `source` cannot be loaded, or its embeddings have another width than those of the training.
    """
    config = classifier.model.config
    wanted = source or config.find_captioner()
    if wanted is None:
        return None, "the model names no captioner: nothing was heard"
    try:
        digest = hash_captioner(find_model(wanted))
        listener = Listener.load(wanted, **config.captioner_generation)
    except ModelFolderError as error:
        if source:
            raise
        return None, f"the model's captioner is gone, nothing was heard: {error}"
    if config.captioner_hash not in (None, digest):
        log.warning("%s has other weights than the captioner that %s was trained with", wanted, classifier.name)
    return TrackListener(listener, config.questions or [None], batch_size), None
