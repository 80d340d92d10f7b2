"""`descant serve`: a model that other programs ask over HTTP, as OpenAI's and System One's clients do."""

import argparse
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from descant.program import count, hear, loading_to_stay, say, seconds, silence_transformers, use_all_cores

EXAMPLES = """\
examples:
  descant serve
  descant serve MODEL --port 9000 --allow_host audio.example.org
  DESCANT_TOKEN=… descant serve --host 0.0.0.0

MODEL is a model folder, or a model's id on the Hub (default: the model in the box). Routes: /v1/chat/completions with
one question about one recording (input_audio, or audio_url with a data: URL), /v1/systemone for typed questions,
/v1/models, /health. Elsewhere than on this machine alone, a token is required: DESCANT_TOKEN or --token_file.
Ends with 0 on Ctrl-C or SIGTERM, once what is being answered has been; 2 usage.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser of `descant`."""
    parser = subparsers.add_parser(
        "serve",
        help="let other programs ask a model over HTTP",
        description="Answer other programs over HTTP, in the forms of OpenAI's chat completions and of System One.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", nargs="?", help="a model (default: the model in the box)")
    add_address_options(parser, 8000, "clients")
    parser.add_argument(
        "--allow_host", metavar="HOST", action="append", default=[], dest="hosts",
        help="a host from which sound may be fetched, HOST or HOST:PORT; may be given several times (default: none)",
    )  # fmt: skip
    add_limit_options(parser, "a request", "a recording")
    parser.set_defaults(func=run)


def add_address_options(parser: argparse.ArgumentParser, port: int, users: str) -> None:
    """Add where is listened, by default at a port, and the token that users need."""
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at (default: %(default)s)")
    parser.add_argument(
        "--port", metavar="N", type=count(0, 65_535), default=port, help="its port, 0: any (default: %(default)s)"
    )
    parser.add_argument("--token_file", metavar="FILE", type=Path, help=f"a file with the token that {users} need")


def _some_seconds(text: str) -> float:
    if (value := seconds(text)) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} would refuse every request")
    return value


def add_limit_options(parser: argparse.ArgumentParser, request: str, sound: str) -> None:
    """Add the limits of what is let in, which comes as a request and holds a sound."""
    parser.add_argument(
        "--max_megabytes", metavar="N", type=count(1, 1024), default=32, help=f"of {request} (default: %(default)s)"
    )
    parser.add_argument(
        "--max_seconds", metavar="S", type=_some_seconds, default=900.0, help=f"of {sound} (default: %(default)g)"
    )
    parser.add_argument(
        "--timeout", metavar="S", type=_some_seconds, default=120.0, help="to answer in (default: %(default)g)"
    )
    parser.add_argument(
        "--queue", metavar="N", type=count(1, 4096), default=64, help="requests at a time (default: %(default)s)"
    )
    parser.add_argument(
        "--hear", metavar="N", type=hear, default=12,
        help=f"windows of {sound} that are heard at most, or all (default: %(default)s)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Serve until a signal comes, and return the exit status."""
    from descant.answering.model_folder import choose_model, find_model
    from descant.doors.server import (
        Service,
        build_app,
        drop_slow_headers,
        import_server,
        name_model,
    )

    token = require_token(args)
    model = choose_model(args.model)
    find_model(model)
    listening = listen(args.host, args.port)
    with loading_to_stay():
        import_server()
        from descant.answering.listener import Listener
        from descant.doors.requests import Limits

        silence_transformers()
        use_all_cores()
        listener = Listener.load(model)
    hosts = frozenset(host.lower() for host in args.hosts)
    limits = Limits(args.max_megabytes * 2**20, args.max_seconds, args.timeout, requests=args.queue, hosts=hosts)
    service = Service(listener, name_model(model), limits, args.hear)
    app = build_app(service, token, None if token else list_names(args.host))
    say(f"descant serve: {service.name} answers at {name_address(listening)}/v1 (Ctrl-C ends it)")
    serve_until_signal(app, listening, drop_slow_headers(limits.stall_s))
    return 0


def require_token(args: argparse.Namespace) -> str | None:
    """Return the token of the options or the environment; raise ValueError where others reach a host without one."""
    from descant.doors.server import is_loopback, read_token

    token = read_token(args.token_file, os.environ.get("DESCANT_TOKEN"))
    if token is None and not is_loopback(args.host):
        raise ValueError(f"--host {args.host} is reached by others: set DESCANT_TOKEN, or give --token_file")
    return token


def list_names(host: str) -> list[str]:
    """Return the names by which this machine is called where it listens at a host that it alone reaches."""
    return ["localhost", "127.0.0.1", "::1", host]


def name_address(listening: socket.socket) -> str:
    """Return `http://HOST:PORT` of a socket that listens."""
    address, port = listening.getsockname()[:2]
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; raises ValueError, which names the address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=256)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ValueError(f"--host {host} --port {port}: cannot be listened at ({reason})") from error


def serve_until_signal(app: Any, listening: socket.socket, protocol: Any) -> None:
    """Answer requests until SIGINT or SIGTERM comes and those under way are answered; a second one ends at once."""
    import uvicorn

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Leave signals to the code below: uvicorn sends them again behind the end, which here is a clean one."""
            yield

    config = uvicorn.Config(
        app, log_level="error", log_config=None, lifespan="on", access_log=False, server_header=False, ws="none",
        http=protocol, timeout_graceful_shutdown=10, limit_concurrency=1024,
    )  # fmt: skip
    server = Server(config)
    before = {number: signal.signal(number, server.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        server.run([listening])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
