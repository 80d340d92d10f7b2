"""Metrics on the Hub as Spaces."""

import json

import pytest

from descant.evaluation import score
from descant.evaluation.spaces import push_metric

LOAD = """
import json, evaluate
metric = evaluate.load("tester/musilingo")
print(json.dumps(metric.compute(predictions=["a piano"], references=["a sad piano"])))
"""


def test_a_pushed_metric_loads_from_the_hub(local_hub, tmp_path) -> None:
    assert push_metric("musilingo", "tester/musilingo", api=local_hub.api()).endswith("/spaces/tester/musilingo")
    expected = {".gitattributes", "README.md", "app.py", "musilingo.py", "requirements.txt"}
    assert set(local_hub.files("tester/musilingo", "space")) <= expected
    done = local_hub.run(tmp_path, "-c", LOAD)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == pytest.approx(score(["a piano"], ["a sad piano"], protocol="musilingo"))


def test_pushing_again_updates_the_space(local_hub) -> None:
    for _ in range(2):
        push_metric("lp_musiccaps", "tester/lp_musiccaps", api=local_hub.api())
    assert "lp_musiccaps.py" in local_hub.files("tester/lp_musiccaps", "space")


@pytest.mark.parametrize(("protocol", "repo_id"), [("bleu", "tester/bleu"), ("musilingo", "tester/other")])
def test_a_space_under_another_name_is_refused(protocol: str, repo_id: str) -> None:
    with pytest.raises(ValueError, match="cannot hold"):
        push_metric(protocol, repo_id)
