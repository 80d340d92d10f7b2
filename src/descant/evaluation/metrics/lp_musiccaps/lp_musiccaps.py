"""The `lp_musiccaps` protocol as a metric of `evaluate`: `evaluate.load("<this folder>")`."""

from typing import Any

import datasets
import evaluate

from descant.evaluation.scoring import score

DESCRIPTION = "Scores music captions and answers as LP-MusicCaps does: corpus BLEU of words, METEOR, ROUGE-L F."
INPUTS = "predictions: texts; references: a text, or a list of texts, for each prediction"
FIELDS = {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
SEVERAL = {"predictions": datasets.Value("string"), "references": datasets.Sequence(datasets.Value("string"))}


class LPMusicCaps(evaluate.Metric):
    """Names and formulas of the scores stand in `descant.evaluation.scoring`."""

    def _info(self) -> evaluate.MetricInfo:
        features = [datasets.Features(FIELDS), datasets.Features(SEVERAL)]
        return evaluate.MetricInfo(description=DESCRIPTION, citation="", inputs_description=INPUTS, features=features)

    def _compute(self, predictions: list[str], references: list, **settings: Any) -> dict[str, float]:
        return score(predictions, references, protocol="lp_musiccaps", **settings)
