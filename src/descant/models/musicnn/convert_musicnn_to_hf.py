"""Turns the published musicnn, a wheel with TensorFlow checkpoints, into a folder that from_pretrained loads.

    pip download --no-deps musicnn==0.1.0
    descant convert musicnn-0.1.0-py3-none-any.whl --output musicnn

TensorFlow is not needed: a checkpoint is an index, which is a LevelDB table, and a file of raw numbers.
"""

import json
import os
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch

from .configuration_musicnn import MusicnnConfig
from .feature_extraction_musicnn import MusicnnFeatureExtractor
from .modeling_musicnn import DEAD, MusicnnModel

StateDict = dict[str, torch.Tensor]
Source = Path | zipfile.Path

# Our network → the folder of its checkpoint in the wheel.
FOLDERS = {"mtt": "MTT_musicnn", "msd": "MSD_musicnn"}
# Our module → TensorFlow's layer.
LAYERS = {
    "input_norm": "batch_normalization",
    "timbral.0": "conv2d", "timbral.0.norm": "batch_normalization_1",
    "timbral.1": "conv2d_1", "timbral.1.norm": "batch_normalization_2",
    "temporal.0": "conv2d_2", "temporal.0.norm": "batch_normalization_3",
    "temporal.1": "conv2d_3", "temporal.1.norm": "batch_normalization_4",
    "temporal.2": "conv2d_4", "temporal.2.norm": "batch_normalization_5",
    "mid.0": "conv2d_5", "mid.0.norm": "batch_normalization_6",
    "mid.1": "conv2d_6", "mid.1.norm": "batch_normalization_7",
    "mid.2": "conv2d_7", "mid.2.norm": "batch_normalization_8",
    "pooled_norm": "batch_normalization_9", "dense": "dense",
    "penultimate_norm": "batch_normalization_10", "classifier": "dense_1",
}  # fmt: skip
NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
# States of the published folder that are no defaults.
STATES = {"timbre_cepstra": 20, "tempo_bands": 3}
# What the optimiser kept beside the weights.
OPTIMISER = ("Adam", "beta1_power", "beta2_power")
TABLE_MAGIC = 0xDB4775248B80FB57
FOOTER_BYTES = 48
FLOAT32 = 1  # TensorFlow's DataType

LICENCE = """\
Copyright (c) Music Technology Group, Universitat Pompeu Fabra 2019. Code developed by Jordi Pons (www.jordipons.me).

Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby
granted, provided that the above copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL
IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT,
INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN
AN ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR
PERFORMANCE OF THIS SOFTWARE.
"""

CARD = """\
---
license: isc
library_name: transformers
pipeline_tag: audio-classification
tags: [music, audio, music-tagging, audio-encoder]
---

# musicnn

Two small convolutional networks that tag music, by Jordi Pons and Xavier Serra (Music Technology Group, Universitat
Pompeu Fabra; [arXiv 1909.06654](https://arxiv.org/abs/1909.06654)), with the weights of the PyPI package
[musicnn](https://pypi.org/project/musicnn) 0.1.0 converted without a change to what they compute.

| Network | Trained on | Gives |
|---|---|---|
| `mtt` | MagnaTagATune | 50 tags: instruments, genres, voices, tempo |
| `msd` | Million Song Dataset, tags of Last.fm | 50 tags: genres, decades, moods, voices |

They hear mono sound at 16,000 Hz in patches of 2.99 s. Each patch gets the networks' penultimate states (2 × 200) and
three states of its whole window, which are additions of [descant](https://pypi.org/project/descant) without weights:

- rhythm (2 × 200): how far the onsets below and above 1.7 kHz repeat themselves after 16 ms, 32 ms, … 3.2 s;
- timbre (594): mean, spread and rises of each of the 96 mel bands, and the covariances of 20 cepstral coefficients;
- tempo (3 × 96): how well beats of 48 lengths, 240 to 40 a minute, fit the onsets of three bands, and how far these
  repeat themselves in 48 stretches of lags up to 6 s.

`timbre_cepstra=0, tempo_bands=0` in `from_pretrained` leaves the last two out.

## Use it

```python
import descant  # makes the Auto classes know the model; without it, pass trust_remote_code=True
import soundfile
import soxr
import torch
from transformers import AutoFeatureExtractor, AutoModel

folder = "musicnn"  # this folder
model = AutoModel.from_pretrained(folder)  # networks=["mtt"] for one of them
extractor = AutoFeatureExtractor.from_pretrained(folder, window_s=30)

audio, rate = soundfile.read("song.wav", dtype="float32", always_2d=True)
audio = soxr.resample(audio.mean(axis=1), rate, 16_000)[: extractor.num_samples]
inputs = extractor(audio, sampling_rate=16_000, return_tensors="pt")
with torch.inference_mode():
    outputs = model(**inputs)
probabilities = outputs.tag_logits.sigmoid().mean(dim=1)[0]  # the mean over patches, (tags,)
for probability, tag in sorted(zip(probabilities.tolist(), model.config.tag_names), reverse=True)[:5]:
    print(f"{probability:.2f} {tag}")
```

`outputs.pooler_output` (1, 1682) is what a small classifier learns well from.

## Limits

- It was trained on music alone: speech, birdsong or noise get tags of music too.
- Some instruments have no tag: a solo trumpet is "guitar" in one network and "jazz" in the other.
- Frequencies next to 8,000 Hz, and with them the resampler, move probabilities by up to 0.1 in a single patch.
- Of classical music the `msd` network, which has no tag for it, says jazz and instrumental.

## Licence

The weights are their authors', under the ISC licence in `LICENSE`. What they were trained on has terms of its own: the
sound of MagnaTagATune is for non-commercial use. The code is descant's, under Apache-2.0.
"""


class ConversionError(ValueError):
    """Says in one sentence why a checkpoint cannot be converted."""


def convert_checkpoint(source: Path, output: Path, with_code: bool = True) -> MusicnnModel:
    """Write model, configuration, feature extractor, card and licence to `output`; returns the model.

    source: the wheel of musicnn 0.1.0, or the folder that it was unpacked into.
    with_code: also write the Python files that trust_remote_code runs.
    Raises ConversionError where something cannot be read, and for weights that are unknown, missing or misshapen.
    """
    if output.exists() and not output.is_dir():
        raise ConversionError(f"{output} is a file: give a folder")
    model = MusicnnModel(MusicnnConfig(networks=tuple(FOLDERS), **STATES))
    weights: StateDict = {}
    for name, folder in FOLDERS.items():
        stored = read_tensorflow_checkpoint(find_folder(source, folder))
        weights |= {f"networks.{name}.{key}": weight for key, weight in rename(stored, f"{source}: {folder}").items()}
    load_weights(model, weights)
    save(model.eval(), output, with_code)
    return model


def find_folder(source: Path, name: str) -> Source:
    """Find a checkpoint's folder in a wheel or in what a wheel was unpacked into."""
    if not source.exists():
        raise ConversionError(f"there is no {source}: get it by `pip download --no-deps musicnn==0.1.0`")
    if source.is_file() and not zipfile.is_zipfile(source):
        raise ConversionError(f"{source} is neither a wheel nor a folder")
    root = source if source.is_dir() else zipfile.Path(source)
    for folder in (root / "musicnn" / name, root / name):
        if (folder / ".index").exists():
            return folder
    raise ConversionError(f"{source} holds no {name}/.index: give the wheel of musicnn 0.1.0 or its unpacked folder")


def read_tensorflow_checkpoint(folder: Source) -> StateDict:
    """Read the weights of a checkpoint with an empty name, without what its optimiser kept."""
    data = (folder / ".data-00000-of-00001").read_bytes()
    weights = {}
    try:
        for key, value in read_table((folder / ".index").read_bytes()):
            name = key.decode()
            if name and not any(word in name for word in OPTIMISER):
                weights[name] = read_tensor(value, data)
    except (IndexError, struct.error, RuntimeError, TypeError, ValueError) as error:
        raise ConversionError(f"{folder} is no TensorFlow V2 checkpoint of float32 weights: {error}") from error
    return {name: weight for name, weight in weights.items() if name != "global_step"}


def read_table(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Read the entries of an uncompressed LevelDB table.

    Its footer points at a block of pointers to the blocks of entries.
    """
    footer = table[-FOOTER_BYTES:]
    if struct.unpack("<Q", footer[-8:])[0] != TABLE_MAGIC:
        raise ValueError("its index ends in no LevelDB footer")
    numbers = read_varints(footer, 4)
    for _, handle in read_block(table, *numbers[2:]):
        yield from read_block(table, *read_varints(handle, 2))


def read_block(table: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Read the entries of a block, of whose keys only what differs from the one before is stored."""
    if table[start + size] != 0:
        raise ValueError("its index is compressed")
    block = table[start : start + size]
    (restarts,) = struct.unpack("<I", block[-4:])
    position, end, key = 0, size - 4 - 4 * restarts, b""
    while position < end:
        shared, position = read_varint(block, position)
        new, position = read_varint(block, position)
        length, position = read_varint(block, position)
        key = key[:shared] + block[position : position + new]
        position += new
        yield key, block[position : position + length]
        position += length


def read_tensor(entry: bytes, data: bytes) -> torch.Tensor:
    """Read the tensor that a BundleEntryProto describes: dtype (1), shape (2), offset (4) and size (5) in the data."""
    numbers, parts = read_message(entry)
    dimensions = [part for shape in parts if shape[0] == 2 for part in read_message(shape[1])[1] if part[0] == 2]
    shape = [read_message(dimension)[0].get(1, 0) for _, dimension in dimensions]
    start, size = numbers.get(4, 0), numbers.get(5, 0)
    if numbers.get(1) != FLOAT32:
        raise ValueError(f"it holds numbers of TensorFlow's type {numbers.get(1)}")
    if len(data) < start + size:
        raise ValueError("its data file is cut off")
    return torch.frombuffer(bytearray(data[start : start + size]), dtype=torch.float32).view(shape)


def read_message(message: bytes) -> tuple[dict[int, int], list[tuple[int, bytes]]]:
    """Read a protocol buffer: its whole numbers by field, and all other fields as (field, bytes)."""
    numbers, parts, position = {}, [], 0
    while position < len(message):
        tag, position = read_varint(message, position)
        field, kind = tag >> 3, tag & 7
        if kind == 0:
            numbers[field], position = read_varint(message, position)
            continue
        size = {1: 8, 5: 4}.get(kind, 0)
        if kind == 2:
            size, position = read_varint(message, position)
        parts.append((field, message[position : position + size]))
        position += size
    return numbers, parts


def read_varints(content: bytes, count: int) -> list[int]:
    """Read the first numbers of `content`."""
    numbers, position = [], 0
    for _ in range(count):
        number, position = read_varint(content, position)
        numbers.append(number)
    return numbers


def read_varint(content: bytes, position: int) -> tuple[int, int]:
    """Read a number of seven bits a byte, the lowest first; returns it with the position behind it."""
    number = shift = 0
    while True:
        byte = content[position]
        number |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return number, position


def rename(stored: StateDict, where: str) -> StateDict:
    """Give TensorFlow's weights our names and layouts; filters that weight decay has left nothing of become zeros."""
    left, weights = dict(stored), {}
    for module, layer in LAYERS.items():
        kinds = NORM if module.endswith("norm") else {"weight": "kernel", "bias": "bias"}
        for kind, theirs in kinds.items():
            if f"{layer}/{theirs}" not in left:
                raise ConversionError(f"{where} lacks {layer}/{theirs}")
            weights[f"{module}.{kind}"] = turn(left.pop(f"{layer}/{theirs}"))
    if left:
        raise ConversionError(f"{where} holds weights that the model does not have: {', '.join(sorted(left))}")
    for name, weight in weights.items():
        if weight.ndim == 4:
            weight[weight.abs().flatten(1).sum(dim=1) <= DEAD] = 0
            # One channel in; a convolution over time alone has the channels where others have frequency.
            weights[name] = weight[:, 0].mT if name.startswith("mid") else weight[:, 0]
    return weights


def turn(weight: torch.Tensor) -> torch.Tensor:
    """Turn a kernel (time, frequency, in, out) to (out, in, time, frequency), a dense one (in, out) to (out, in)."""
    orders = {4: (3, 2, 0, 1), 2: (1, 0)}
    return weight.permute(orders[weight.ndim]).contiguous() if weight.ndim in orders else weight


def load_weights(model: MusicnnModel, weights: StateDict) -> None:
    """Fill the model; every weight has the model's shape, or a ConversionError names the one that has not."""
    for name, own in model.state_dict().items():
        if weights[name].shape != own.shape:
            raise ConversionError(f"{name} has shape {tuple(weights[name].shape)}, the model {tuple(own.shape)}")
    model.load_state_dict(weights)


def save(model: MusicnnModel, output: Path, with_code: bool) -> None:
    """Save beside the output folder first, then move file by file, so that no file there is ever half written."""
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as name:
        folder = Path(name)
        model.save_pretrained(folder)
        MusicnnFeatureExtractor().save_pretrained(folder)
        (folder / "README.md").write_text(CARD, encoding="utf-8")
        (folder / "LICENSE").write_text(LICENCE, encoding="utf-8")
        if not with_code:
            drop_code(folder)
        for file in folder.iterdir():
            with file.open("rb") as written:
                os.fsync(written.fileno())
            file.replace(output / file.name)


def drop_code(folder: Path) -> None:
    """Leave out the Python files and every mention of them, for a folder that descant itself ships."""
    for file in folder.glob("*.py"):
        file.unlink()
    for file in folder.glob("*.json"):
        settings = {name: value for name, value in json.loads(file.read_text()).items() if name != "auto_map"}
        file.write_text(json.dumps(settings, indent=2) + "\n")
