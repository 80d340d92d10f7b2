"""A tiny subgenre classifier of each fusion, for the tests of its folder."""

import pytest
import torch
from tiny_subgenre import build_tiny_subgenre

from descant.models.subgenre import SubgenreForSequenceClassification, SubgenreProcessor


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Models this small lose more to waking threads than they gain, and much more on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(params=["late", "cross_attention"])
def model(request: pytest.FixtureRequest) -> SubgenreForSequenceClassification:
    return build_tiny_subgenre(fusion=request.param)[0]


@pytest.fixture(scope="session")
def processor() -> SubgenreProcessor:
    return build_tiny_subgenre()[1]
