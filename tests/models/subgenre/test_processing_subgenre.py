"""Tests of the label order, of how texts become windows, and of how what is missing is marked."""

from pathlib import Path

import pytest
import torch
from tiny_subgenre import AUDIO_DIM, CAPTIONS, LYRICS, TREE, WINDOW_TOKENS, tracks
from transformers import AutoConfig, AutoProcessor, BertConfig

from descant.models.subgenre import SubgenreConfig, SubgenreProcessor


def test_genres_come_first_and_a_subgenre_is_known_by_its_full_name() -> None:
    config = SubgenreConfig(label_tree=TREE)
    names = ["rock---punk", "rock---blues", "jazz---bebop", "jazz---swing", "jazz---blues"]
    assert list(config.id2label.values()) == ["rock", "jazz", "ambient", *names]
    assert config.label2id["jazz---blues"] == 7
    assert config.parents == [0, 0, 1, 1, 1]


def test_labels_keep_their_order_when_saved(tmp_path: Path) -> None:
    tree = {"zydeco": ["z", "a"], "ambient": [], "metal": [f"m{number}" for number in range(12)]}
    thresholds = {"zydeco---z": 0.2, "ambient": 0.7}
    scales = {"lyrics+audio": 0.5}
    text_config = BertConfig(hidden_size=24)
    config = SubgenreConfig(label_tree=tree, thresholds=thresholds, threshold_scales=scales, text_config=text_config)
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert type(again) is SubgenreConfig
    assert (again.id2label, again.label_tree) == (config.id2label, config.label_tree)
    named = dict(zip(again.id2label.values(), again.list_thresholds(), strict=True))
    assert (named["ambient"], named["zydeco"]) == (0.7, 0.5)
    halved = dict(zip(again.id2label.values(), again.list_thresholds({"audio", "lyrics"}), strict=True))
    assert (halved["ambient"], halved["zydeco"]) == (0.35, 0.25)
    assert (again.text_config.model_type, again.text_config.hidden_size) == ("bert", 24)


def test_pipelines_are_named_in_the_saved_form_only() -> None:
    config = SubgenreConfig(label_tree=TREE)
    assert "music-subgenre-classification" in config.to_dict()["custom_pipelines"]
    assert "custom_pipelines" not in vars(config)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"fusion": "early"}, "fusion 'early' is none of late, cross_attention"),
        ({"text_config": {"model_type": "hummer"}}, "model_type 'hummer', which transformers does not know"),
        ({"text_config": {"vocab_size": 3}}, "model_type None"),
        ({"label_tree": {"rock": ["punk", "punk"]}}, "'punk' stands twice"),
        ({"label_tree": [["rock", []], ["rock", ["punk"]]]}, "'rock' stands twice"),
        ({"label_tree": {"rock": ["post---punk"]}}, "'post---punk' is empty or has '---' in it"),
        ({"label_tree": {"rock": [" "]}}, "is empty"),
        ({"threshold_scales": {"audio+lyrics": 1}}, "threshold_scales has 'audio\\+lyrics': name modalities as in"),
        ({"label_tree": TREE, "thresholds": {"blues": 0.2}}, "threshold for 'blues', which is not in the label tree"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        SubgenreConfig(**settings)


LONG = "\n".join(f"line {number} of a song that goes on and on" for number in range(60))


def test_all_of_a_long_text_lies_in_windows_that_overlap(processor: SubgenreProcessor) -> None:
    windows = processor.cut(LONG)
    assert all(len(ids) <= WINDOW_TOKENS for ids, _ in windows)
    spans = [span for _, span in windows]
    assert (spans[0][0], spans[-1][1]) == (0, len(LONG))
    for (_, end), (start, _) in zip(spans, spans[1:], strict=False):
        assert start < end  # three tokens are shared


def test_the_tokens_of_the_windows_are_those_of_the_text(processor: SubgenreProcessor) -> None:
    whole = processor.tokenizer(LONG, add_special_tokens=False)["input_ids"]
    first, *others = [ids[1:-1] for ids, _ in processor.cut(LONG)]
    assert first + [token for ids in others for token in ids[processor.overlap_tokens :]] == whole


def test_a_window_tells_where_it_lies_in_the_text(processor: SubgenreProcessor) -> None:
    for ids, (start, end) in processor.cut(LYRICS):
        assert processor.tokenizer.decode(ids, skip_special_tokens=True).strip() == LYRICS[start:end].strip()


def test_sentences_are_read_as_one_text(processor: SubgenreProcessor) -> None:
    assert processor.cut(CAPTIONS) == processor.cut(" ".join(CAPTIONS))


def test_rows_kinds_and_mask_say_what_each_track_has(processor: SubgenreProcessor) -> None:
    inputs = processor(**tracks(), return_tensors="pt")
    assert inputs["modality_mask"].tolist() == [[1, 1, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]]
    pairs = set(zip(inputs["text_row"].tolist(), inputs["text_kind"].tolist(), strict=True))
    assert pairs == {(0, 0), (0, 1), (1, 1), (2, 0), (2, 1), (3, 0)}
    assert inputs["text_row"].tolist() == sorted(inputs["text_row"].tolist())
    assert inputs["audio_embeds"].shape == (4, AUDIO_DIM)
    assert inputs["audio_embeds"][2:].eq(0).all()
    assert inputs["text_attention_mask"].sum(1).min() > 0


@pytest.mark.parametrize("nothing", [None, "", " \n\t ", []])
def test_a_text_without_words_counts_as_missing(processor: SubgenreProcessor, nothing: str | list | None) -> None:
    inputs = processor(lyrics=["words"], captions=[nothing])
    assert inputs["modality_mask"] == [[1, 0, 0]]


def test_without_any_text_there_are_no_text_inputs(processor: SubgenreProcessor) -> None:
    inputs = processor(lyrics=[None, ""], audio_embeds=torch.ones(2, AUDIO_DIM))
    assert sorted(inputs) == ["audio_embeds", "modality_mask"]
    assert inputs["modality_mask"] == [[0, 0, 1]] * 2


def test_the_longest_lyrics_are_read_to_their_end(processor: SubgenreProcessor) -> None:
    text = " ".join(["la la la and on"] * 3_000)  # 47,999 characters
    wide = SubgenreProcessor(processor.tokenizer, window_tokens=256, overlap_tokens=16, audio_dim=AUDIO_DIM)
    assert wide.cut(text)[-1][1][1] == len(text)


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        ({}, "neither lyrics, captions nor audio_embeds were given"),
        ({"lyrics": ["a", "b"], "captions": ["c"]}, r"are for \[1, 2\] tracks"),
        ({"lyrics": []}, r"are for \[0\] tracks"),
        ({"audio_embeds": [[0.0] * 7]}, r"has the shape \(7,\), the model needs \(6,\) a track"),
        ({"audio_embeds": torch.zeros(6)}, r"has the shape \(\)"),
        ({"audio_embeds": [[float("nan")] * 6]}, "NaN or infinite"),
        ({"lyrics": [float("nan")]}, "nan is neither a text nor a list of texts"),
        ({"captions": [["a", None]]}, "neither a text nor a list of texts"),
    ],
)
def test_what_cannot_be_read_is_named(processor: SubgenreProcessor, inputs: dict, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        processor(**inputs)


def test_windows_without_room_between_their_overlaps_are_refused(processor: SubgenreProcessor) -> None:
    with pytest.raises(ValueError, match="overlap_tokens 10 must be less than window_tokens 12 - 2"):
        SubgenreProcessor(processor.tokenizer, window_tokens=12, overlap_tokens=10)


def test_a_saved_processor_is_the_same(processor: SubgenreProcessor, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path)
    again = AutoProcessor.from_pretrained(tmp_path)
    assert type(again) is SubgenreProcessor
    assert (again.window_tokens, again.overlap_tokens, again.audio_dim) == (WINDOW_TOKENS, 3, AUDIO_DIM)
    assert dict(again(**tracks())) == dict(processor(**tracks()))
