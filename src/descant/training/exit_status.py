"""How a training program begins and ends: its log on stderr, and the status that tells how it ended."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import transformers

from descant.threads import use_all_cores
from descant.training.checkpoints import CheckpointError
from descant.training.finite_loss import NonFiniteLossError

log = logging.getLogger(__name__)


def set_up_logging() -> None:
    """Plain lines on stderr, and transformers' own only where something is wrong."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    transformers.logging.set_verbosity_warning()
    transformers.logging.disable_progress_bar()


@contextmanager
def ending_with_status(name: str) -> Iterator[None]:
    """Runs on all cores; ends the program with one sentence on stderr where it does not end well.

    2 when refused, 1 when it broke off (a full disk, a loss that is not finite), 130 when interrupted.
    """
    use_all_cores()
    try:
        yield
    except ValueError as error:
        log.error("%s: %s", name, error)
        sys.exit(2)
    except (CheckpointError, NonFiniteLossError) as error:
        log.error("%s: %s", name, error)
        sys.exit(1)
    except KeyboardInterrupt:
        log.error("%s: interrupted; the same command goes on from the last checkpoint", name)
        sys.exit(130)
