"""The protocols as metrics of `evaluate`: loaded by path, and on the Hub as Spaces."""

import json
from importlib.resources import files

import evaluate
import pytest
import yaml

from descant.evaluation import score
from descant.evaluation.spaces import push_metric

METRICS = files("descant.evaluation").joinpath("metrics")
TEXTS = {"predictions": ["A slow piano piece", "drums"], "references": ["A sad piano piece", "loud drums"]}


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """`evaluate.load` of a protocol's folder, with its caches in a temporary folder."""
    caches = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evaluate.config.HF_MODULES_CACHE", str(caches / "modules"))
        yield lambda protocol: evaluate.load(str(METRICS.joinpath(protocol)), cache_dir=str(caches / "metrics"))


@pytest.mark.parametrize("protocol", ["lp_musiccaps", "musilingo"])
def test_a_metric_loads_by_path_and_scores_as_its_protocol(protocol: str, load) -> None:
    metric = load(protocol)
    expected = score(TEXTS["predictions"], TEXTS["references"], protocol=protocol)
    assert metric.compute(**TEXTS) == pytest.approx(expected)


def test_several_references_and_training_texts_are_taken(load) -> None:
    metric = load("lp_musiccaps")
    references = [["A sad piano piece", "slow"], ["loud drums"]]
    scores = metric.compute(predictions=TEXTS["predictions"], references=references, train_references=["drums"])
    assert scores["caption_novelty"] == 0.5


@pytest.mark.parametrize("protocol", ["lp_musiccaps", "musilingo"])
def test_a_metrics_folder_is_a_space(protocol: str) -> None:
    folder = METRICS.joinpath(protocol)
    card = yaml.safe_load(folder.joinpath("README.md").read_text(encoding="utf-8").split("---")[1])
    assert card["sdk"] == "gradio" and "metric" in card["tags"]
    assert folder.joinpath(card["app_file"]).is_file() and folder.joinpath("requirements.txt").is_file()


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
