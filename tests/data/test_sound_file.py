"""The reader that commands and model folders share: channels, marks that cannot be trusted, what it never opens."""

import ast
import io
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import descant.models
from descant.data import sound_file
from descant.data.sound_file import AudioError, Spans, find_parts, mix_down, read_blocks, require_finite

RATE = 16_000
CHORD = (0.2 * np.sin(np.arange(3 * RATE) / 5)).astype(np.float32)
NOISE = np.random.default_rng(0).normal(0, 0.05, 3 * RATE).astype(np.float32)


def as_file(samples: np.ndarray, kind: str = "WAV", subtype: str = "FLOAT") -> io.BytesIO:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format=kind, subtype=subtype)
    return file


def heard(file: io.BytesIO, name: str = "song") -> np.ndarray:
    return np.concatenate([samples for samples, _ in read_blocks(file, name)])


def test_of_channels_that_cancel_each_other_out_the_louder_is_heard_and_it_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    long = np.tile(CHORD, 8)  # three blocks
    for _ in range(2):
        samples = heard(as_file(np.stack([0.9 * long, -long], axis=1)), "twice read.wav")
        assert np.array_equal(samples, -long)
    assert caplog.text.count("twice read.wav: its channels cancel each other out") == 1


@pytest.mark.parametrize(
    "channels",
    [
        np.stack([CHORD, CHORD]),
        np.stack([CHORD, 0 * CHORD]),
        np.stack([CHORD, NOISE]),
        np.stack([CHORD + NOISE, CHORD - NOISE]),
        np.stack([CHORD, -0.7 * CHORD]),
        np.stack([0.001 * CHORD, -0.001 * CHORD]),  # under -60 dBFS nothing is heard, in phase or not
    ],
)
def test_other_channels_are_mixed(channels: np.ndarray) -> None:
    assert np.array_equal(mix_down("song", channels), channels.mean(axis=0))


def test_a_block_alone_may_be_out_of_phase() -> None:
    left = np.tile(CHORD, 10)
    right = left.copy()
    right[160_000:320_000] *= -1
    samples = heard(as_file(np.stack([left, right], axis=1)))
    assert len(samples) == len(left)
    assert np.array_equal(samples[170_000:], left[170_000:])  # blocks are 10 s and a part of a frame


def test_the_first_sample_that_is_none_is_named() -> None:
    channels = np.stack([CHORD, CHORD])
    channels[0, 2 * RATE + 5], channels[1, RATE + 5] = np.nan, -1e9
    with pytest.raises(AudioError, match=r"song: holds samples of -1e\+09, .* \(in the second after 1 s\)"):
        require_finite("song", channels, RATE)
    with pytest.raises(AudioError, match=r"NaN or infinite samples \(in the second after 12 s\)"):
        require_finite("song", channels[:1], RATE, start_s=10.0)
    require_finite("song", np.full((1, 10), 100.0, np.float32), RATE)


def test_stretches_of_a_file_are_read_as_one() -> None:
    joined = Spans(io.BytesIO(bytes(range(100))), ((10, 20), (30, 31), (90, 100)))
    assert b"".join(iter(lambda: joined.read(4), b"")) == bytes([*range(10, 20), 30, *range(90, 100)])
    assert joined.seek(-11, 2) == 10 and joined.read(3) == bytes([30])
    assert joined.seek(-1, 1) == 10 and joined.seek(12) == joined.tell() == 12 and joined.read(99)[0] == 91


def test_bytes_that_are_left_out_of_an_mp3_are_named(caplog: pytest.LogCaptureFixture) -> None:
    data = as_file(CHORD, "MP3", "MPEG_LAYER_III").getvalue()
    half = data.index(data[:2], len(data) // 2)
    (part,) = find_parts(io.BytesIO(data[:half] + bytes(999) + data[half:]))
    assert len(part.spans) == 2 and "999 bytes" in part.note
    heard(io.BytesIO(data[:half] + bytes(999) + data[half:]), "debris.mp3")
    assert "debris.mp3: 999 bytes in it are no whole frames of sound" in caplog.text


def test_ffmpeg_says_nothing_and_opens_nothing_else(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    other = tmp_path / "other.wav"
    other.write_bytes(as_file(CHORD).getvalue())
    lists = (f"#EXTM3U\n#EXTINF:10,\n{other}\n", f"ffconcat version 1.0\nfile {other}\n", f"{other}\n")
    damaged = as_file(CHORD, "FLAC", "PCM_16").getvalue()
    for data in (*map(str.encode, lists), damaged[:9_000] + b"x" * 99 + damaged[9_000:], damaged[: len(damaged) // 3]):
        with pytest.raises(AudioError):
            heard(io.BytesIO(data))
    assert capfd.readouterr() == ("", "")


def test_model_folders_carry_this_file_and_it_needs_no_other() -> None:
    source = Path(sound_file.__file__)
    folders = [path for path in Path(descant.models.__path__[0]).iterdir() if (path / "sound_file.py").exists()]
    assert {folder.name for folder in folders} >= {"lp_music_caps", "mert_lm"}
    assert all((folder / "sound_file.py").read_bytes() == source.read_bytes() for folder in folders)
    nodes = list(ast.walk(ast.parse(source.read_text())))
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= {"av", "numpy", *sys.stdlib_module_names}
