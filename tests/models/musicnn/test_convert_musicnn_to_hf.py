"""Tests of the conversion from TensorFlow checkpoints, which are written here byte by byte as TensorFlow does."""

import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from descant.cli import main
from descant.models.musicnn import MusicnnConfig, MusicnnFeatureExtractor, MusicnnModel
from descant.models.musicnn.convert_musicnn_to_hf import LAYERS, ConversionError, convert_checkpoint

Weights = dict[str, np.ndarray]


def varint(number: int) -> bytes:
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def message(fields: list[tuple[int, int | bytes]]) -> bytes:
    """A protocol buffer of numbers and of byte strings."""
    parts = []
    for number, value in fields:
        whole = isinstance(value, int)
        parts.append(varint(number << 3 | (0 if whole else 2)))
        parts.append(varint(value) if whole else varint(len(value)) + value)
    return b"".join(parts)


def block(entries: list[tuple[bytes, bytes]], restart: int = 16) -> bytes:
    """A LevelDB block: keys share their beginning with the one before, and every 16th is whole."""
    content, starts, last = b"", [], b""
    for position, (key, value) in enumerate(entries):
        shared = 0
        if position % restart == 0:
            starts.append(len(content))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        content += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return content + b"".join(struct.pack("<I", start) for start in [*starts, len(starts)])


def write_checkpoint(folder: Path, weights: Weights) -> None:
    """Two blocks of entries behind an index block, and one data file."""
    folder.mkdir(parents=True)
    data, entries = b"", [(b"", message([(1, 1)]))]
    for name in sorted(weights):
        values = weights[name]
        shape = b"".join(message([(2, message([(1, size)]))]) for size in values.shape)
        kind = {"float32": 1, "int64": 9}[values.dtype.name]
        entry = [(1, kind), (2, shape), (4, len(data)), (5, values.nbytes)]
        fixed = varint(6 << 3 | 5) + struct.pack("<I", 1234)  # the checksum, which is not read
        entries.append((name.encode(), message(entry) + fixed))
        data += values.tobytes()
    table, handles = b"", []
    for part in (entries[:40], entries[40:]):
        content = block(part)
        handles.append((part[-1][0], varint(len(table)) + varint(len(content))))
        table += content + b"\0" + b"crc!"
    content = block(handles, restart=1)
    footer = varint(0) + varint(0) + varint(len(table)) + varint(len(content))
    table += content + b"\0" + b"crc!"
    table += footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    (folder / ".index").write_bytes(table)
    (folder / ".data-00000-of-00001").write_bytes(data)


@pytest.fixture(scope="module")
def model() -> MusicnnModel:
    torch.manual_seed(0)
    model = MusicnnModel(MusicnnConfig()).eval()
    for name, weight in model.state_dict().items():
        if "norm" in name:
            weight.copy_(torch.rand_like(weight) + 0.5)
    return model


def tensorflow_weights(model: MusicnnModel, network: str) -> Weights:
    """The weights under TensorFlow's names and in its layouts, with what an optimiser keeps."""
    kinds = {"norm": ("gamma", "beta", "moving_mean", "moving_variance"), "layer": ("kernel", "bias")}
    ours = {"gamma": "weight", "kernel": "weight", "beta": "bias", "moving_mean": "running_mean"}
    weights = {}
    for module, layer in LAYERS.items():
        for kind in kinds["norm" if "norm" in module else "layer"]:
            name = ours.get(kind, "running_var" if kind == "moving_variance" else "bias")
            values = model.networks[network].state_dict()[f"{module}.{name}"]
            if values.ndim == 3:  # (out, time, frequency), of the middle layers (out, in, time)
                values = (values.mT if "mid" in module else values).permute(1, 2, 0)[:, :, None]
            elif values.ndim == 2:
                values = values.T
            weights[f"{layer}/{kind}"] = np.ascontiguousarray(values.numpy())
            weights[f"{layer}/{kind}/Adam"] = np.full(3, 7, np.float32)
    return weights | {"beta1_power": np.float32([0.9]).reshape(())}


@pytest.fixture(scope="module")
def unpacked(model: MusicnnModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a wheel is unpacked into."""
    folder = tmp_path_factory.mktemp("wheel")
    for network in ("mtt", "msd"):
        write_checkpoint(folder / "musicnn" / f"{network.upper()}_musicnn", tensorflow_weights(model, network))
    return folder


def pack(unpacked: Path, wheel: Path) -> Path:
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in unpacked.rglob("*"):
            archive.write(file, file.relative_to(unpacked))
    return wheel


def test_a_converted_wheel_is_the_model_that_was_stored(model: MusicnnModel, unpacked: Path, tmp_path: Path) -> None:
    convert_checkpoint(pack(unpacked, tmp_path / "musicnn.whl"), tmp_path / "converted")
    converted = MusicnnModel.from_pretrained(tmp_path / "converted")
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in converted.state_dict().items())
    assert MusicnnFeatureExtractor.from_pretrained(tmp_path / "converted").feature_shape == [626, 96]
    assert "Pompeu Fabra" in (tmp_path / "converted/LICENSE").read_text()
    card = (tmp_path / "converted/README.md").read_text()
    assert card.startswith("---\nlicense: isc\n") and max(map(len, card.splitlines())) <= 120
    assert not list(tmp_path.glob(".converted*"))


def test_a_folder_converts_as_its_wheel_and_may_leave_code_out(unpacked: Path, tmp_path: Path) -> None:
    for source, output in ((unpacked, "a"), (unpacked / "musicnn", "b")):
        convert_checkpoint(source, tmp_path / output, with_code=False)
    assert not list(tmp_path.glob("?/*.py"))
    assert "auto_map" not in (tmp_path / "a/config.json").read_text()
    assert json.loads((tmp_path / "a/config.json").read_text())["model_type"] == "musicnn"
    files = [load_file(tmp_path / name / "model.safetensors") for name in ("a", "b")]
    assert all(torch.equal(weight, files[1][name]) for name, weight in files[0].items())


def test_filters_that_decayed_to_nothing_become_zeros(model: MusicnnModel, tmp_path: Path) -> None:
    for network in ("mtt", "msd"):
        weights = tensorflow_weights(model, network)
        weights["conv2d_1/kernel"][..., 5] = 1e-14
        weights["conv2d_5/kernel"][..., 7] = 1e-20
        write_checkpoint(tmp_path / f"{network.upper()}_musicnn", weights)
    converted = convert_checkpoint(tmp_path, tmp_path / "converted").networks["msd"]
    assert [index for index, weight in enumerate(converted.timbral[1].weight) if not weight.any()] == [5]
    assert [index for index, weight in enumerate(converted.mid[0].weight) if not weight.any()] == [7]


def drop(name: str):
    return lambda weights: {key: value for key, value in weights.items() if key != name}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drop("dense/kernel"), "MTT_musicnn lacks dense/kernel"),
        (drop("batch_normalization/gamma"), "lacks batch_normalization/gamma"),
        (lambda w: w | {"extra/bias": np.zeros(2, np.float32)}, "does not have: extra/bias"),
        (lambda w: w | {"dense/bias": np.zeros(7, np.float32)}, r"dense.bias has shape \(7,\), the model \(200,\)"),
        (lambda w: w | {"dense/bias": np.zeros(200, np.int64)}, "TensorFlow's type 9"),
    ],
)
def test_every_weight_is_used_or_refused_by_name(
    model: MusicnnModel, unpacked: Path, tmp_path: Path, change, reason: str
) -> None:
    write_checkpoint(tmp_path / "MTT_musicnn", change(tensorflow_weights(model, "mtt")))
    (tmp_path / "MSD_musicnn").symlink_to(unpacked / "musicnn" / "MSD_musicnn")
    with pytest.raises(ConversionError, match=reason):
        convert_checkpoint(tmp_path, tmp_path / "converted")
    assert not (tmp_path / "converted").exists()


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        (".index", lambda content: content[:-1], "footer"),
        (".index", lambda content: content[:20], "no TensorFlow V2 checkpoint"),
        (".index", lambda content: b"\xff" * 100 + content[100:], "MTT_musicnn"),
        (".data-00000-of-00001", lambda content: content[: len(content) // 2], "cut off"),
    ],
)
def test_damaged_files_are_refused(unpacked: Path, tmp_path: Path, file: str, change, reason: str) -> None:
    folder = tmp_path / "MTT_musicnn"
    folder.mkdir()
    for source in (unpacked / "musicnn/MTT_musicnn").iterdir():
        content = source.read_bytes()
        (folder / source.name).write_bytes(change(content) if source.name == file else content)
    with pytest.raises(ConversionError, match=reason):
        convert_checkpoint(tmp_path, tmp_path / "converted")


def test_the_command_converts_a_wheel(unpacked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheel = pack(unpacked, tmp_path / "musicnn.whl")
    assert main(["convert", str(wheel), "--output", str(tmp_path / "converted")]) == 0
    assert capsys.readouterr().out == f"Model saved to {tmp_path / 'converted'}: 1.6 M weights from {wheel}\n"
    assert (tmp_path / "converted/modeling_musicnn.py").exists()


def test_what_is_no_wheel_is_refused_with_exit_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "note.whl").write_text("hello")
    reasons = {"missing.whl": "there is no", "note.whl": "neither a wheel nor a folder", ".": "holds no MTT_musicnn"}
    for source, reason in reasons.items():
        assert main(["convert", str(tmp_path / source), "--output", str(tmp_path / "converted")]) == 2
        assert reason in capsys.readouterr().err
