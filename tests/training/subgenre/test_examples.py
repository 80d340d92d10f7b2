"""Tracks joined with hearings, and batches of them."""

import numpy as np
import pytest
import torch

from descant.data.tracks import LabelTree, Track
from descant.inference.track_hearing import Said, TrackHearing
from descant.models.subgenre import SubgenreProcessor
from descant.training.start import train_tokenizer
from descant.training.subgenre.examples import (
    Example,
    ExampleCollator,
    ExampleInputs,
    build_inputs,
    gather_examples,
    join_inputs,
)

TREE = LabelTree({"jazz": ("swing",), "pop": ("disco", "swing")})


@pytest.fixture(scope="module")
def processor():
    tokenizer = train_tokenizer(["love in the rain"], 300)
    return SubgenreProcessor(tokenizer, window_tokens=8, overlap_tokens=2, audio_dim=3)


def make_example(name: str, lyrics: str | None = "love", captions: tuple = ("slow",), audio: bool = True) -> Example:
    return Example(name, lyrics, captions, np.ones(3, np.float32) if audio else None, np.zeros(5, np.float32))


def test_labels_hold_the_genres_of_subgenres_too():
    track = Track("a", None, "la la", None, "jazz", ("pop---swing",), None, "train", "test")
    (example,) = gather_examples([track], {}, [], TREE)
    assert dict(zip([*TREE.genres, *TREE.subgenres], example.labels, strict=True)) == {
        "jazz": 1, "pop": 1, "jazz---swing": 0, "pop---disco": 0, "pop---swing": 1,
    }  # fmt: skip


def test_captions_are_the_answers_to_the_questions_that_count_and_a_track_not_heard_has_none():
    tracks = [Track(name, None, None, None, "jazz", (), None, "train", "test") for name in ("a", "b", "c")]
    said = (Said(0, 10, "genre?", "jazz"), Said(0, 10, "which of these?", "pop"), Said(10, 20, "genre?", " "))
    hearings = {"a": TrackHearing("a", said, np.ones(3)), "b": TrackHearing("b", error="bad file")}
    heard, bad, unheard = gather_examples(tracks, hearings, ["genre?"], TREE)
    assert heard.captions == ("jazz",) and heard.audio_embeds is not None
    assert bad.is_empty and unheard.is_empty


def test_a_batch_holds_what_each_track_has(processor):
    examples = [make_example("a"), make_example("b", "love in the rain " * 9, None, False), make_example("c", None)]
    joined = join_inputs([build_inputs(one, processor) for one in examples], processor.tokenizer.pad_token_id)
    whole = processor(
        lyrics=[one.lyrics for one in examples], captions=[one.captions for one in examples],
        audio_embeds=[one.audio_embeds for one in examples], return_tensors="pt",
    )  # fmt: skip
    assert joined.keys() == whole.keys()
    assert all(torch.equal(joined[name], whole[name]) for name in whole)


def test_training_reads_other_windows_of_a_long_text_in_each_epoch(processor):
    inputs = ExampleInputs([make_example("long", "love in the rain " * 40), make_example("short")], processor)
    collate = ExampleCollator(processor.tokenizer.pad_token_id, train_windows=2, seed=1)
    drawn = [collate([inputs[0, epoch], inputs[1, epoch]]) for epoch in range(5)]
    again = collate([inputs[0, 3], inputs[1, 3]])
    assert all((one["text_kind"] == 0).sum() == 3 for one in drawn)  # two of the long one, one of the short one
    assert len({tuple(one["text_input_ids"].flatten().tolist()) for one in drawn}) > 1
    assert torch.equal(again["text_input_ids"], drawn[3]["text_input_ids"])
    everything = collate([inputs[0], inputs[1]])
    assert len(everything["text_kind"]) == inputs.lengths.sum()


def test_hidden_modalities_are_gone(processor):
    kept = make_example("a").keep(("audio",))
    assert kept.lyrics is None and kept.captions is None and kept.audio_embeds is not None
    assert build_inputs(kept, processor)["modality_mask"].tolist() == [[0, 0, 1]]
