"""The Markdown of an evaluation."""

from descant.evaluation.report import render_report

RESULT = {
    "model": "m", "dataset": "a|b", "config": "captions", "split": "test", "protocol": "lp_musiccaps", "n": 3,
    "skipped": 1, "bad_records": 0, "bleu1": 0.5, "meteor": 0.25, "vocab_size": 7.0, "controls": {}, "verdicts": [],
    "intervals": {"bleu1": (0.4, 0.6), "meteor": (0.2, 0.3), "vocab_size": (6.0, 8.0)},
    "leak": {"checked": True, "clips": 0}, "made_with": {"nltk": "3"},
}  # fmt: skip


def test_our_row_stands_beside_the_published_ones_of_the_same_protocol() -> None:
    text = render_report(RESULT)
    assert "| system | data | bleu1 | meteor |" in text
    assert "| this model | a\\|b, captions, test | 0.5000 | 0.2500 |" in text
    assert "0.4000 – 0.6000" in text
    assert "| LP-MusicCaps transfer | MusicCaps, captions, test | 0.2909 | 0.2239 |" in text
    assert "1 skipped" in text and "do not compare" in text


def test_the_other_protocol_has_no_published_row() -> None:
    assert "LP-MusicCaps" not in render_report(RESULT | {"protocol": "musilingo"})


def test_the_leak_check_is_always_told() -> None:
    assert "none of these clips" in render_report(RESULT)
    assert "Leak: 2 of these clips" in render_report(RESULT | {"leak": {"checked": True, "clips": 2}})
    assert "not possible" in render_report(RESULT | {"leak": {"checked": False, "clips": 0}})


def test_controls_and_their_meaning_follow() -> None:
    gap = {"score": 0.1, "gap": 0.4, "interval": (0.3, 0.5), "p": 0.001}
    controls = {"shuffled": {"bleu1": gap}, "majority": {}}
    text = render_report(RESULT | {"controls": controls, "verdicts": ["bleu1 depends on the audio."]})
    assert "| bleu1 | 0.5000 | 0.1000 (+0.4000 [0.3000, 0.5000]) |  |" in text
    assert "- bleu1 depends on the audio." in text
