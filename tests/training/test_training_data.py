"""Tokenised rows: ahead of the step, ends kept, questions shared."""

import numpy as np

from descant.data.annotations import Row
from descant.models.lp_music_caps import LPMusicCapsFeatureExtractor, LPMusicCapsProcessor
from descant.training.start import train_tokenizer
from descant.training.training_data import TokenizedRows, concatenate_configs

ROWS = [
    Row("a", "What is heard?", "A piano and a very long flute solo.", None, "own", 0, 10),
    Row("b", "What is heard?", "Drums.", None, "own", 0, 10),
    Row("a", None, "A piano plays.", None, "own", 0, 10),
]
TOKENIZER = train_tokenizer([row.answer for row in ROWS] + ["What is heard?"])
PROCESSOR = LPMusicCapsProcessor(LPMusicCapsFeatureExtractor(), TOKENIZER)


def test_answers_are_cut_without_losing_their_end():
    item = TokenizedRows(ROWS, PROCESSOR, max_answer_tokens=5)[0]
    assert len(item["label_ids"]) == 5
    assert (item["label_ids"][0], item["label_ids"][-1]) == (TOKENIZER.bos_token_id, TOKENIZER.eos_token_id)


def test_an_item_holds_the_question_and_the_epoch_it_is_asked_for():
    rows = TokenizedRows(ROWS, PROCESSOR)
    assert rows[1, 7]["epoch"] == 7 and rows[1]["epoch"] is None
    assert TOKENIZER.decode(rows[1]["prompt_ids"], skip_special_tokens=True) == "What is heard?"
    assert rows[2]["prompt_ids"] is None


def test_rows_of_a_clip_have_one_number():
    assert TokenizedRows(ROWS, PROCESSOR).clip_numbers.tolist() == [0, 1, 0]


def test_configurations_keep_their_rows_apart():
    rows, indices = concatenate_configs({"short": ROWS[:2], "long": ROWS[2:]})
    assert rows == ROWS
    assert [index.tolist() for index in indices.values()] == [[0, 1], [2]]
    assert np.array_equal(TokenizedRows(rows, PROCESSOR).lengths > 2, [True] * 3)
