"""Who describes the songs of a job: this process, the processes that `accelerate launch` started, or a Ray cluster.

Whoever does, one process appends each record to the job's log as it arrives: nothing is described twice, nothing lost.
"""

import json
import logging
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from datetime import timedelta
from importlib.util import find_spec

from descant.files import Record
from descant.program import BrokeOff, name_error, one_line

log = logging.getLogger(__name__)

SONGS_A_BLOCK = 8  # go to a worker together; so many a worker has at most in vain where it or the driver is killed
AGAIN = 1  # times that Ray does a lost worker's block again, before its songs are tried one by one
LOST = "the process that described it died each time, as if it ran out of memory or a library crashed"
ANSWER_S = 10.0  # seconds until a cluster answers, at most
LONGEST_WAIT = timedelta(days=30)  # for the other processes, whose songs may be longer

Describe = Callable[[str], Record]
Load = Callable[[], Describe]


def describe_or_name(describe: Describe, song: str) -> Record:
    """Return the description of a song, or a record of why there is none: `{"audio": song, "error": reason}`."""
    try:
        return describe(song) | {"audio": song}
    except Exception as error:  # whatever one file raises is that file's problem
        return {"audio": song, "error": name_error(error)}


class OneProcess:
    """Describes one song after the other in this process.

    rank: of this process among `count` that share a job; the first (0) publishes what came of it.
    """

    rank, count = 0, 1

    def run(self, load: Load, songs: Sequence[str]) -> Generator[Record, None, None]:
        """Yield a record of each song, see `describe_or_name`; `load` is called where there is a song."""
        describe = load()
        for song in songs:
            yield describe_or_name(describe, song)

    def wait(self) -> None:
        """Wait for the other processes of the job."""


class Launched(OneProcess):
    """Describes this process's share of the songs, one of a fixed set that `accelerate launch` started."""

    def __init__(self) -> None:
        from accelerate import Accelerator
        from accelerate.utils import InitProcessGroupKwargs

        self.accelerator = Accelerator(kwargs_handlers=[InitProcessGroupKwargs(timeout=LONGEST_WAIT)])
        self.rank, self.count = self.accelerator.process_index, self.accelerator.num_processes

    def wait(self) -> None:
        """Wait for the other processes of the job."""
        self.accelerator.wait_for_everyone()


def is_launched() -> bool:
    """Return whether `accelerate launch` started this process together with others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


class RayCluster(OneProcess):
    """Describes songs on the workers of a Ray cluster, as many as there are meanwhile; the driver gets the records.

    A worker has a GPU to itself where the cluster has any, else a CPU and one thread. What a lost worker had is done
    again by another one. A song with which the process dies each time becomes a record of an error.
    """

    def __init__(self, address: str | None = None) -> None:
        """
        address: HOST:PORT of a cluster; without it that of RAY_ADDRESS, of one that runs on this machine, else a new
            one here. Raises ValueError where Ray is not installed, and for an address of Ray's client.
        """
        if find_spec("ray") is None:
            raise ValueError("--engine ray needs Ray: pip install descant[ray]")
        if "://" in (address or os.environ.get("RAY_ADDRESS", "")):
            raise ValueError(f"{address or os.environ['RAY_ADDRESS']}: start the command on a node of the cluster, "
                             "and give its address as HOST:PORT")  # fmt: skip
        self.address = address

    def run(self, load: Load, songs: Sequence[str]) -> Generator[Record, None, None]:
        """Yield a record of each song, in the order in which they are done.

        `load` is sent to the workers and called there. Raises ValueError where no cluster answers, BrokeOff where its
        workers cannot load the model.
        """
        left = dict.fromkeys(songs)
        with connect(self.address):
            for size in (SONGS_A_BLOCK, 1):
                if left and size == 1:
                    log.warning("%d songs are described again, one by one: their workers were lost", len(left))
                for record in _distribute(load, list(left), size) if left else ():
                    if record["audio"] in left:  # what was done twice counts once
                        del left[record["audio"]]
                        yield record
        for song in left:
            yield {"audio": song, "error": LOST}


@contextmanager
def connect(address: str | None) -> Iterator[None]:
    """Connect this process to a Ray cluster, or start one on this machine; raises ValueError where none answers."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # or what is cleared up after the end would connect again
    import ray

    _require_answer(address or os.environ.get("RAY_ADDRESS", ""))
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    with redirect_stdout(sys.stderr):  # a thread of Ray's prints there what goes wrong on nodes
        try:
            ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError) as error:
            raise ValueError(f"the Ray cluster cannot be used: {one_line(error)}") from error
        finally:
            if main:
                signal.signal(signal.SIGTERM, before)  # Ray's own would end the program without a sentence
        try:
            yield
        finally:
            ray.shutdown()


def _require_answer(address: str) -> None:
    """Raise ValueError where nothing listens at HOST:PORT, which Ray tries again for minutes."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal():  # nothing, "auto" or "local"
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
    except OSError as error:
        raise ValueError(f"{address}: no Ray cluster answers: {one_line(error)}") from error


class Worker:
    """Describes blocks of songs in a process of the cluster, with the model loaded once."""

    def __init__(self, load: Load, folder: str, version: str) -> None:
        """
        load: loads the model. folder: where names of songs are relative to. version: of descant, which must be that
            of this worker. Raises ValueError for another one, OSError where the folder is not on this machine.
        """
        import ray

        import descant

        if descant.__version__ != version:
            raise ValueError(f"a node has descant {descant.__version__}, and this command is {version}")
        os.chdir(folder)
        if not ray.get_gpu_ids():
            os.environ["OMP_NUM_THREADS"] = "1"  # a worker counts as one CPU
        self.describe = load()

    def __call__(self, block: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
        """Return the records of a block, as JSON: Arrow would give all of them the same keys."""
        songs = map(json.loads, block["song"])
        return {"record": [json.dumps(describe_or_name(self.describe, song)) for song in songs]}


def _distribute(load: Load, songs: Sequence[str], size: int) -> Generator[Record, None, None]:
    """Yield the records of all songs whose workers lived, or whose block another worker could do again."""
    import ray

    import descant

    blocks = math.ceil(len(songs) / size)
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    _set_up_ray_data()
    pool = ray.data.ActorPoolStrategy(
        min_size=1, initial_size=min(blocks, max(1, gpus or int(resources.get("CPU", 1)))), max_size=blocks,
        max_tasks_in_flight_per_actor=2 if size > 1 else 1,  # one: no other song dies of what ends a process
    )  # fmt: skip
    rows = [{"song": json.dumps(song)} for song in songs]  # as JSON: names need not be UTF-8
    described = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
        Worker, batch_size=None, batch_format="numpy", compute=pool, num_cpus=1, num_gpus=1 if gpus else None,
        fn_constructor_args=(load, os.getcwd(), descant.__version__), max_restarts=-1, max_task_retries=AGAIN,
    )  # fmt: skip
    try:
        for batch in described.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
            yield from map(json.loads, batch["record"])
    except ray.exceptions.ObjectLostError as error:  # records on a lost node that could not be made again
        log.warning("records were lost with their node: %s", one_line(error))
    except ray.exceptions.RayError as error:
        raise BrokeOff(f"the workers of the Ray cluster cannot begin: {last_line(error)}") from error


def _set_up_ray_data() -> None:
    """Let Ray Data pass over blocks whose worker is lost, which are done again, and say no more than this program."""
    import ray

    context = ray.data.DataContext.get_current()
    context.max_errored_blocks = -1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)


def last_line(error: BaseException) -> str:
    """Return the last line of an error's message, which of a worker's traceback names what happened."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
