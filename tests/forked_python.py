"""Python processes that start at once: forks of one that has imported torch and transformers, but not descant.

For tests in which it matters that something runs in a process of its own, and not how a fresh interpreter begins: six
seconds of imports each are saved. What is forked has streams, an environment and a folder of its own, as from
`subprocess`; what libraries read from the environment when they are imported (`HF_…`) is fixed: offline, empty cache.
"""

import atexit
import json
import os
import random
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path

IMPORTED = (
    "accelerate", "datasets", "matplotlib.figure", "peft", "soundfile", "torch.distributed.fsdp", "torchaudio",
    "transformers.generation", "transformers.models.bart.modeling_bart", "transformers.models.hubert.modeling_hubert",
    "transformers.pipelines", "transformers.trainer_seq2seq",
)  # fmt: skip


class ForkedPython:
    """A running `python *arguments`, with what tests use of `subprocess.Popen`.

    arguments: a script, `-c` with code or `-m` with a module, and what follows it.
    environment: variables beside those of this process.
    """

    def __init__(self, *arguments: object, cwd: Path | None = None, **environment: str) -> None:
        if fixed := [name for name in environment if name.startswith(("HF_", "TRANSFORMERS_"))]:
            raise ValueError(f"{fixed} has been read before the fork: use subprocess")
        self._streams = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115 - closed with this object
        told, tell = os.pipe()
        order = {
            "arguments": [str(one) for one in arguments], "cwd": str(cwd or Path.cwd()),
            "environment": os.environ | environment,
        }  # fmt: skip
        sent = [*(stream.fileno() for stream in self._streams), tell]
        socket.send_fds(start_server(), [json.dumps(order).encode()], sent)
        os.close(tell)
        self._told = os.fdopen(told)
        self.pid = int(self._told.readline())
        self.returncode: int | None = None

    def wait(self, timeout: float = 600) -> int:
        """Return the exit status, that of a signal as a negative number."""
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            self.returncode = int(self._told.readline())
            self._told.close()
        return self.returncode

    def poll(self) -> int | None:
        """Return the exit status where it has ended."""
        try:
            return self.wait(timeout=0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def communicate(self, timeout: float = 600) -> tuple[str, str]:
        """Wait for its end; return what it wrote to stdout and stderr."""
        self.wait(timeout)
        return self.said()

    def said(self) -> tuple[str, str]:
        """Return what it has written to stdout and stderr so far."""
        out, error = (os.pread(stream.fileno(), 2**26, 0).decode() for stream in self._streams)
        return out, error


def run_forked(*arguments: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess:
    """Run `python *arguments` to its end, as `subprocess.run` with captured text does."""
    process = ForkedPython(*arguments, cwd=cwd, **environment)
    out, error = process.communicate()
    return subprocess.CompletedProcess(arguments, process.wait(), out, error)


def start_ranks(count: int, *arguments: object, cwd: Path | None = None) -> list[ForkedPython]:
    """Start as many processes of one group over gloo, as `torchrun` and `accelerate launch` do."""
    shared = {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_port()), "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count), "GLOO_SOCKET_IFNAME": "lo", "ACCELERATE_USE_CPU": "true",
        "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    return [ForkedPython(*arguments, cwd=cwd, **shared, **rank) for rank in ranks]


def find_port() -> int:
    """Return a port to listen at that is free, and none of those that the system gives to connections meanwhile."""
    while True:
        port = random.SystemRandom().randrange(10_000, 32_768)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def run_ranks(count: int, *arguments: object, cwd: Path | None = None) -> tuple[str, str]:
    """Run the processes of a group to their good end; return what all wrote to stdout and stderr."""
    said = [(*one.communicate(), one.wait()) for one in start_ranks(count, *arguments, cwd=cwd)]
    assert [status for _, _, status in said] == [0] * count, "\n".join(error[-3000:] for _, error, _ in said)
    return "".join(out for out, _, _ in said), "".join(error for _, error, _ in said)


@cache
def start_server() -> socket.socket:
    """Start this process's server, once; it ends with this process."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    home = tempfile.mkdtemp()
    environment = os.environ | {"HF_HOME": home, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(its.fileno())]
    process = subprocess.Popen(command, env=environment, pass_fds=[its.fileno()], stdin=subprocess.DEVNULL)
    its.close()

    def end() -> None:
        ours.close()
        process.wait()
        shutil.rmtree(home)

    atexit.register(end)
    return ours


# In the server


def serve(orders: socket.socket) -> dict | None:
    """Fork for every order; return None at the end, and the order in what was forked for it."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    while True:
        message, descriptors, _, _ = socket.recv_fds(orders, 2**20, 3)
        if not message:
            return None
        *streams, tell = descriptors
        if os.fork() == 0:
            orders.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            keep(tell)
            for target, stream in enumerate(streams, 1):
                os.dup2(stream, target)
            return json.loads(message)
        for descriptor in descriptors:
            os.close(descriptor)


def keep(tell: int) -> None:
    """Fork once more, tell its id and later its status, and end with it; return in the fork alone."""
    child = os.fork()
    if child:
        os.write(tell, f"{child}\n".encode())
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(tell, f"{status}\n".encode())
        os._exit(0)
    os.close(tell)


def become(order: dict) -> None:
    """Run what `python *arguments` runs."""
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environment"])
    kind, *rest = order["arguments"]
    if kind == "-c":
        code, *rest = rest
        sys.argv, main = ["-c", *rest], types.ModuleType("__main__")
        sys.path.insert(0, "")
        sys.modules["__main__"] = main
        exec(compile(code, "<string>", "exec"), main.__dict__)
    elif kind == "-m":
        module, *rest = rest
        sys.argv = [module, *rest]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv = [kind, *rest]
        sys.path.insert(0, str(Path(kind).resolve().parent))
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    sys.path.pop(0)  # this folder
    for name in IMPORTED:
        import_module(name)
    from transformers import dynamic_module_utils

    assert "descant" not in sys.modules and threading.active_count() == 1  # a fork has but the thread that forks
    given = serve(socket.socket(fileno=int(sys.argv[1])))
    if given:
        # As with a home of its own, or code that another test's model brought could stand in for what lacks.
        dynamic_module_utils.HF_MODULES_CACHE = tempfile.mkdtemp(dir=os.environ["HF_HOME"])
        become(given)
