"""Threads: all cores, shared by the processes of a machine, unless the user said otherwise."""

import os

import pytest
import torch

from descant.threads import use_all_cores

CORES = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("environment", "threads"),
    [
        ({}, CORES),
        ({"LOCAL_WORLD_SIZE": "2"}, max(1, CORES // 2)),
        ({"LOCAL_WORLD_SIZE": "1000"}, 1),
        ({"OMP_NUM_THREADS": "1", "ACCELERATE_MIXED_PRECISION": "no"}, CORES),
        ({"OMP_NUM_THREADS": "1"}, None),
        ({"OMP_NUM_THREADS": "3", "ACCELERATE_MIXED_PRECISION": "no"}, None),
    ],
)
def test_the_launchers_one_thread_is_not_the_users(
    environment: dict[str, str], threads: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    for name in ("OMP_NUM_THREADS", "LOCAL_WORLD_SIZE", "ACCELERATE_MIXED_PRECISION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    use_all_cores()
    assert asked == ([] if threads is None else [threads])
