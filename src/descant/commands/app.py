"""`descant app`: a page that listens to a track and answers questions, with an API and tools."""

import argparse
import os
import socket
import tempfile
from pathlib import Path

from descant.commands.serve import (
    add_address_options,
    add_limit_options,
    list_names,
    listen,
    name_address,
    require_token,
    serve_until_signal,
)
from descant.program import say, silence_transformers, use_all_cores

UPLOADS = "uploads"  # the folder's name
UPLOADS_KEPT = 32  # of the largest size, or as many bytes of smaller ones
EXAMPLES = """\
examples:
  descant app
  descant app MODEL --port 9000
  DESCANT_TOKEN=… descant app --host 0.0.0.0

MODEL is a model folder, or a model's id on the Hub (default: the model in the box). The page's functions ask, decide
and describe are its API (gradio_client) and its MCP tools, at /gradio_api/mcp/. Elsewhere than on this machine alone,
a token is required: DESCANT_TOKEN or --token_file, which a browser asks for as a password. Nothing is sent anywhere
else, and what was uploaded is removed after an hour and at the end. Ends with 0 on Ctrl-C or SIGTERM; 2 usage.
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the parser of `descant`."""
    parser = subparsers.add_parser(
        "app",
        help="open a page that listens to tracks",
        description="Show a page that listens to a track, describes it, and answers questions about it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", nargs="?", help="a model (default: the model in the box)")
    add_address_options(parser, 7860, "users")
    parser.add_argument(
        "--public", action="store_true", help="ask nobody for a token, wherever it listens: for a Space of the Hub"
    )
    add_limit_options(parser, "an upload", "a track")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Show the page until a signal comes, and return the exit status."""
    from descant.answering.model_folder import choose_model, find_model

    if args.public and args.token_file:
        raise ValueError("--public asks for no token: leave --token_file out")
    token = None if args.public else require_token(args)
    model = choose_model(args.model)
    find_model(model)
    listening = listen(args.host, args.port)
    with tempfile.TemporaryDirectory(prefix="descant-app-") as folder:
        (Path(folder) / UPLOADS).mkdir()
        os.environ["GRADIO_TEMP_DIR"] = str(Path(folder) / UPLOADS)  # gradio reads it when it is imported
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        show_page(args, model, token, listening, Path(folder))
    return 0


def show_page(args: argparse.Namespace, model: str, token: str | None, listening: socket.socket, folder: Path) -> None:
    """Load the model, and answer until a signal comes."""
    from descant.answering.listener import Listener
    from descant.doors.app import build_page, mount, write_example
    from descant.doors.page_gate import PageGate, Uploads
    from descant.doors.requests import Limits
    from descant.doors.server import drop_slow_headers, name_model
    from descant.doors.studio import Studio

    silence_transformers()
    use_all_cores()
    limits = Limits(args.max_megabytes * 2**20, args.max_seconds, args.timeout, requests=args.queue)
    studio = Studio(Listener.load(model), name_model(model), limits, args.hear)
    names = None if token or args.public else list_names(args.host)
    example = write_example(folder)  # beside the uploads, which gradio removes when they are old
    uploads = Uploads(folder / UPLOADS, UPLOADS_KEPT * limits.bytes)
    app = PageGate(mount(build_page(studio, example), studio), limits, token, names, uploads)
    say(f"descant app: {studio.name} listens at {name_address(listening)} (Ctrl-C ends it)")
    try:
        serve_until_signal(app, listening, drop_slow_headers(limits.stall_s))
    finally:
        studio.close()
