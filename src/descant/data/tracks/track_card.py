"""The card of a dataset of tracks: its labels and splits in numbers, and how to make it again."""

from collections import Counter
from pathlib import Path

from huggingface_hub import DatasetCardData

from descant.data.tracks.track import TRACK_SPLITS, TrackCorpus

CONFIG = "tracks"


def write_track_card(folder: Path, corpus: TrackCorpus, description: str, command: str) -> None:
    """Writes README.md beside the rows."""
    splits = [name for name in TRACK_SPLITS if corpus.split(name)]
    files = [{"split": name, "path": f"{CONFIG}/{name}-*.parquet"} for name in splits]
    data = DatasetCardData(
        license=corpus.licence,
        pretty_name=corpus.id,
        tags=["music", "audio", "descant"],
        task_categories=["audio-classification", "text-classification"],
        configs=[{"config_name": CONFIG, "data_files": files}],
        revision=corpus.revision,
    )
    parts = [f"---\n{data.to_yaml()}\n---\n\n# {corpus.id}", description, _counts(corpus, splits), _columns(corpus)]
    parts.append(f"To build it anew:\n\n```\n{command}\n```")
    (folder / "README.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _counts(corpus: TrackCorpus, splits: list[str]) -> str:
    lines = ["| split | tracks | artists | with lyrics |", "|---|---|---|---|"]
    for name in splits:
        tracks = corpus.split(name)
        artists = len({track.artist for track in tracks if track.artist})
        sung = sum(track.lyrics is not None for track in tracks)
        lines.append(f"| {name} | {len(tracks):,} | {artists:,} | {sung:,} |")
    genres = Counter(track.genre for track in corpus.tracks)
    lines += ["", "| genre | tracks | subgenres |", "|---|---|---|"]
    for genre in corpus.tree.genres:
        lines.append(f"| {genre} | {genres[genre]:,} | {', '.join(corpus.tree.branches[genre])} |")
    return "\n".join(lines)


def _columns(corpus: TrackCorpus) -> str:
    languages = Counter(track.language for track in corpus.tracks if track.language).most_common(8)
    named = ", ".join(f"{language} {count:,}" for language, count in languages) or "none"
    return f"""No artist stands in two splits. Subgenres are full names (`genre---subgenre`), all of them in
`label_tree.json`. Sound is not part of this dataset, nor are lyrics unless the builder was asked for them.
Languages of the lyrics: {named}. Problems on the way: {len(corpus.problems):,}."""
