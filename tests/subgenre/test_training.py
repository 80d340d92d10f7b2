"""The classifier a run starts from."""

import pytest
import torch
from tiny import save_tiny_model
from tiny_classifier import build_classifier
from tiny_tracks import make_job
from transformers import BertConfig, BertModel

from descant.subgenre.examples import SubgenreData
from descant.subgenre.labels import LabelTree, TrackCorpus
from descant.subgenre.training import SubgenreOptions, fit_to_data, load_classifier
from descant.training.start import train_tokenizer

TREE = LabelTree({"pop": ("disco",), "jazz": ("swing", "bebop")})
TEXTS = ["love in the rain", "a slow song"]


def test_a_new_one_is_the_same_for_the_same_seed_and_keeps_the_order_of_the_labels(tmp_path):
    options = make_job(tmp_path, "--dataset", "demo").options
    (first, processor), (second, _) = (load_classifier(options, TREE, TEXTS, 4, seed=1) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), second.parameters(), strict=True))
    assert [*first.config.genres, *first.config.subgenres] == [*TREE.genres, *TREE.subgenres]
    assert (processor.window_tokens, processor.overlap_tokens, processor.audio_dim) == (32, 4, 4)


def test_any_encoder_keeps_its_weights_and_its_unused_head_is_not_trained(tmp_path):
    tokenizer = train_tokenizer(TEXTS)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    encoder = BertModel(BertConfig(vocab_size=len(tokenizer), **sizes))
    encoder.save_pretrained(tmp_path / "encoder")
    tokenizer.save_pretrained(tmp_path / "encoder")
    options = SubgenreOptions(text_encoder=str(tmp_path / "encoder"))
    model, _ = load_classifier(options, TREE, TEXTS, 4, seed=0)
    loaded = model.text_encoder.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in encoder.state_dict().items())
    assert not any(parameter.requires_grad for parameter in model.text_encoder.pooler.parameters())


def test_a_classifier_with_other_labels_is_refused(tmp_path):
    model, processor = build_classifier("late")
    model.save_pretrained(tmp_path / "classifier")
    processor.save_pretrained(tmp_path / "classifier")
    with pytest.raises(ValueError, match="knows 5 labels, others than those of this tree"):
        load_classifier(SubgenreOptions(), TREE, TEXTS, 4, seed=0, init_from=str(tmp_path / "classifier"))


def test_a_classifier_trained_with_another_captioner_is_refused(tmp_path):
    captioner = str(save_tiny_model(tmp_path / "captioner"))
    data = SubgenreData(TrackCorpus([], TREE, "x", "cc0-1.0", "1"), captioner, (None,), {}, {}, {}, {})
    model, _ = build_classifier("cross_attention")
    fit_to_data(model, [], data)
    fit_to_data(model, [], data)  # the same captioner
    model.config.captioner_hash = "0" * 16
    with pytest.raises(ValueError, match="in place of 0{16}.: pass the same --captioner, or start a new model"):
        fit_to_data(model, [], data)
