"""All workers keep one pace, and one answer to slow down pauses them all once."""

import threading
import time

import pytest

from descant.data.download.pace import Pace, Stopped


def test_starts_are_spaced_over_all_workers():
    pace = Pace(sleep_s=0.04, backoff_s=1, max_backoffs=1)
    began = []
    workers = [threading.Thread(target=lambda: began.append(pace.wait())) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    began.sort()
    assert all(later - earlier >= 0.02 for earlier, later in zip(began, began[1:], strict=False))


def test_answers_to_requests_of_one_moment_are_one_pause():
    pace = Pace(sleep_s=0, backoff_s=0.1, max_backoffs=5)
    first, second = pace.wait(), pace.wait()
    pace.slow_down(first)
    pace.slow_down(second)
    asked = time.monotonic()
    pace.wait()
    assert pace.backoffs == 1 and 0.05 < time.monotonic() - asked < 0.19


def test_pause_doubles_until_something_goes_well():
    pace = Pace(sleep_s=0, backoff_s=0.05, max_backoffs=5)
    pauses = []
    for goes_well in (False, False, True, False):
        if goes_well:
            pace.went_well()
        pace.slow_down(pace.wait())
        asked = time.monotonic()
        pace.wait()
        pauses.append(time.monotonic() - asked)
    assert pauses[1] > 0.09 and pauses[2] < 0.09


def test_servers_own_pause_counts_where_it_is_longer():
    pace = Pace(sleep_s=0, backoff_s=0.01, max_backoffs=5)
    pace.slow_down(pace.wait(), retry_after_s=0.1)
    asked = time.monotonic()
    pace.wait()
    assert time.monotonic() - asked > 0.08


def test_run_stops_after_too_many_pauses_in_a_row():
    pace = Pace(sleep_s=0, backoff_s=0.001, max_backoffs=2)
    for _ in range(3):
        pace.slow_down(pace.wait())
    with pytest.raises(Stopped, match="go on in some hours"):
        pace.wait()


def test_waiting_workers_are_woken_by_a_stop():
    pace = Pace(sleep_s=0, backoff_s=100, max_backoffs=2)
    pace.slow_down(pace.wait())
    threading.Timer(0.05, pace.stop, args=("interrupted",)).start()
    with pytest.raises(Stopped, match="interrupted"):
        pace.wait()
