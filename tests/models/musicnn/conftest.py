"""One thread for models this small, and one model for all that do not change it."""

import pytest
import torch
from plain_musicnn import small_model

from descant.models.musicnn import MusicnnModel


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model() -> MusicnnModel:
    return small_model()
