"""Takes freely licensed recordings from Debian's packages and cuts them into ten-second clips for a corpus.

    mkdir packages && cd packages && apt-get download PACKAGE ... && cd ..
    python datasets_scripts/free_music.py --packages packages --output DIR

Reads every `*.deb` of a folder (or folders of unpacked packages) and writes DIR/audio/<clip_id>.ogg (16 kHz mono, up
to six windows a track, spread evenly) and a line of facts a clip in DIR/facts.jsonl, with package, author and licence
as debian/copyright states them. Musical facts are null: titles and folders say little, and nothing is guessed.

A licence decides the split. What asks for attribution at most (CC0, public domain, CC-BY, MIT and the like) may train
a model. Whatever wants derived work under its own terms (CC-BY-SA, GPL, Free Art) or has terms of its own is for
validation and test alone, so that weights owe nothing to it. Of one author in one package all tracks are in one split.
Terms that forbid commercial use or changes are left out; so is a track whose licence is not stated.
"""

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import soundfile
import soxr
from music_corpus.clip import UNKNOWN, encode
from music_corpus.effects import RATE

from descant.files import write_whole

WINDOW_S, WINDOWS = 10, 6
SHORTEST_S = 20  # what is shorter is a jingle or a loop
SILENCE = 1e-3  # root mean square below which a window is left out
AUDIO = (".ogg", ".opus", ".oga", ".mp3", ".wav", ".flac")
ARCHIVES = (".pk3", ".zip")
MUSIC_FOLDERS = re.compile(r"(^|/)(music|musics|moh|songs|soundtrack|albums)(/|$)", re.IGNORECASE)
ATTRIBUTION = re.compile(r"^(cc0|pd|public-domain|cc-by-\d|cc-by$|mit|expat|bsd|isc|zlib)")
REFUSED = re.compile(r"-n[cd]\b|drascula", re.IGNORECASE)

# debian/copyright of these is prose: (author, licence) as it says there.
PROSE = {
    "asterisk-moh-opsound-wav": ("Paul Shuler, Manolo Camp, Reno Project", "CC-BY-SA-3.0"),
    "fretsonfire-songs-muldjord": ("El Senator (Muldjord)", "CC-BY-SA-3.0"),
    "fretsonfire-songs-sectoid": ("Carlos Viola Iborra", "MIT"),
    "nexuiz-music": ("Alientrap", "GPL-2+"),
    "singularity-music": ("Max McCracken", "CC-BY-SA-3.0"),
    "wesnoth-1.16-music": ("the Wesnoth contributors", "GPL-2+"),
}


@dataclass(frozen=True)
class Terms:
    """Who made some files of a package, and on which terms they are free."""

    patterns: tuple[str, ...]
    author: str
    licence: str


def main() -> int:
    """Cut the music of a folder of packages; the exit status is 1 when a file could not be read."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packages", type=Path, required=True, help="folder of .deb files or of unpacked packages")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    skipped = 0
    for package in sorted(args.packages.iterdir()):
        if package.is_dir() or package.suffix == ".deb":
            try:
                clips, problems = take_package(package, args.output)
            except (OSError, ValueError, tarfile.TarError, zipfile.BadZipFile) as error:
                clips, problems = 0, [f"is left out: {error}"]
            skipped += len(problems)
            print(f"{package.name}: {clips} clips", *problems, sep="\n  ", flush=True)
    return 1 if skipped else 0


def take_package(package: Path, output: Path) -> tuple[int, list[str]]:
    """Add a package's clips to the corpus in `output`; returns their number and the problems with single tracks.

    A package whose clips stand in facts.jsonl already is not taken again.
    """
    name = package.name.split("_")[0]
    (output / "audio").mkdir(parents=True, exist_ok=True)
    facts_file = output / "facts.jsonl"
    if facts_file.exists() and f'"package": "{name}"' in facts_file.read_text(encoding="utf-8"):
        return 0, []
    lines, problems = [], []
    with tempfile.TemporaryDirectory() as folder:
        root = package if package.is_dir() else _unpack(package, Path(folder))
        terms = read_copyright(name, root)
        for track in _tracks(root, Path(folder)):
            try:
                lines += list(_cut(track, name, terms, output))
            except (OSError, ValueError, RuntimeError) as error:
                problems.append(f"{track.name}: {error}")
    # In one step: a package of which some lines stand there would not be taken again.
    before = facts_file.read_text(encoding="utf-8") if facts_file.exists() else ""
    write_whole(facts_file, before + "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return len(lines), problems


def read_copyright(name: str, root: Path) -> list[Terms]:
    """Return the terms in the order of debian/copyright: the last whose pattern fits a file holds for it."""
    if name in PROSE:
        return [Terms(("*",), *PROSE[name])]
    files = sorted(root.glob("usr/share/doc/*/copyright"))
    if not files:
        return []
    terms = []
    for paragraph in re.split(r"\n\s*\n", files[0].read_text(encoding="utf-8", errors="replace")):
        fields = dict(re.findall(r"^(Files|Copyright|License):((?:.*\n?)(?:[ \t].*\n?)*)", paragraph, re.MULTILINE))
        if fields.keys() == {"Files", "Copyright", "License"}:
            author = " ".join(re.sub(r"\d{4}([-, ]+\d{4})*,?", "", fields["Copyright"]).split())
            terms.append(Terms(tuple(fields["Files"].split()), author[:200], fields["License"].split("\n")[0].strip()))
    return terms


def terms_of(path: str, terms: list[Terms]) -> Terms | None:
    """Return the terms of an installed file; a source's path is recognised by its end, `*` alone fits everything."""
    held = None
    for term in terms:
        if any(pattern == "*" or _fits(path, pattern) for pattern in term.patterns):
            held = term
    return held


def split_of(licence: str, author: str, package: str) -> str | None:
    """Return the split that a licence allows, or None for terms under which nothing may be taken."""
    if not licence or REFUSED.search(licence):
        return None
    choices = re.split(r"\s+or\s+", licence.lower())
    if any(ATTRIBUTION.match(choice.strip()) for choice in choices):
        return "train"
    digest = hashlib.sha256(f"{package}/{author}".encode()).digest()
    return "validation" if digest[0] % 2 else "test"


def _fits(path: str, pattern: str) -> bool:
    """Whether an installed path ends as a source's pattern does, with its file name or at least one folder."""
    parts = pattern.removeprefix("./").split("/")
    ends = ["/".join(parts[start:]) for start in range(len(parts))]
    return any(fnmatch(path, f"*/{end}") for end in ends if end.strip("*/") and not end.startswith("*"))


def _unpack(package: Path, folder: Path) -> Path:
    """The package's recordings, archives and copyright file, below `folder`."""
    root = folder / "root"
    root.mkdir()
    with (
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE) as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as archive,
    ):
        for member in archive:
            wanted = member.name.endswith(("/copyright", *ARCHIVES)) or _is_music(member.name)
            if member.isfile() and wanted:
                archive.extract(member, root, filter="data")
    return root


def _tracks(root: Path, folder: Path) -> Iterator[Path]:
    for archive in sorted(path for path in root.rglob("*") if path.suffix.lower() in ARCHIVES):
        with zipfile.ZipFile(archive) as content:
            target = folder / "archives" / archive.name / "music"
            for member in content.infolist():
                if member.filename.lower().endswith(AUDIO):
                    target.mkdir(parents=True, exist_ok=True)
                    with content.open(member) as source, (target / Path(member.filename).name).open("wb") as copy:
                        shutil.copyfileobj(source, copy)
            yield from sorted(target.glob("*"))
    yield from sorted(path for path in root.rglob("*") if path.is_file() and _is_music(str(path)))


def _is_music(path: str) -> bool:
    folder, _, name = path.rpartition("/")
    return name.lower().endswith(AUDIO) and bool(MUSIC_FOLDERS.search(folder)) and name != "guitar.ogg"


def _cut(track: Path, package: str, terms: list[Terms], output: Path) -> Iterator[dict[str, object]]:
    held = terms_of(str(track), terms)
    split = split_of(held.licence, held.author, package) if held else None
    if held is None or split is None:
        return
    digest = hashlib.sha256(f"{package}/{track.parent.name}/{track.name}".encode()).hexdigest()[:10]
    with soundfile.SoundFile(track) as sound:
        title = _title(track, sound)
        for number, samples in enumerate(_windows(sound)):
            clip_id = f"r{digest}_{number}"
            (output / "audio" / f"{clip_id}.ogg").write_bytes(encode(samples))
            yield UNKNOWN | {
                "clip_id": clip_id, "file": f"audio/{clip_id}.ogg", "split": split, "kind": "real",
                "instruments": None, "solo": None, "effects": [], "seed": None, "package": package,
                "author": held.author, "licence": held.licence, "title": title,
            }  # fmt: skip


def _title(track: Path, sound: soundfile.SoundFile) -> str:
    named = sound.copy_metadata().get("title", "").strip()
    return named or (track.parent.name if track.stem == "song" else track.stem)


def _windows(sound: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """Up to six windows of ten seconds, evenly spread and never overlapping; silent ones are left out."""
    length = sound.frames / sound.samplerate
    if length < SHORTEST_S:
        return
    count = min(WINDOWS, int(length // WINDOW_S))
    for number in range(count):
        sound.seek(int((number + 0.5) * length / count * sound.samplerate - WINDOW_S / 2 * sound.samplerate))
        samples = sound.read(WINDOW_S * sound.samplerate, dtype="float32", always_2d=True).mean(axis=1)
        samples = soxr.resample(samples, sound.samplerate, RATE)[: WINDOW_S * RATE]
        if len(samples) == WINDOW_S * RATE and np.sqrt(np.mean(samples**2)) > SILENCE:
            yield samples


if __name__ == "__main__":
    sys.exit(main())
