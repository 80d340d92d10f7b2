"""The page of `descant app` as a Space on the Hub: its three files, in a folder or pushed in one commit."""

import re
from functools import partial
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi

from descant.files import write_whole
from descant.hub_client import PUSH_RETRIES, ask_hub
from descant.models import box
from descant.program import require_writable

GRADIO = "6.31.0"  # with which the page was last looked at
APP = '''\
"""A page that listens to tracks and answers questions about them, as `descant app` shows it."""

import os
import sys

from descant.cli import main

MODEL = {model!r}

if __name__ == "__main__":
    port = os.environ.get("GRADIO_SERVER_PORT", "7860")
    sys.exit(main(["app", MODEL, "--host", "0.0.0.0", "--port", port, "--public"]))
'''
REQUIREMENTS = "descant[app]\n"
README = """\
---
title: "{title}"
emoji: 🎼
colorFrom: indigo
colorTo: yellow
sdk: gradio
sdk_version: {gradio}
python_version: "3.11"
app_file: app.py
pinned: false
license: apache-2.0
short_description: Listens to a track and answers questions about it
{models}tags: [music, music-question-answering, mcp-server]
---
# {title}

Give it a track: it describes what it hears, answers questions, and shows where in time its answers come from. The
model is {link}. `descant app` shows the same page on your own machine.

Programs ask it by `gradio_client`, agents by MCP at `/gradio_api/mcp/`: the functions are `ask`, `decide`, `describe`.
Tracks are removed an hour after they were given.
"""


def compose_space(repo_id: str, model: str) -> dict[str, str]:
    """Return the files of a Space by their names; raises ValueError for ids that are none, and for a folder.

    model: an id on the Hub, or "box", which comes with descant.
    """
    require_id(repo_id, "name/space")
    if model != box.NAME:
        if Path(model).exists():
            raise ValueError(f"{model} is a folder of this machine, which a Space cannot read: push it first")
        require_id(model, "name/model")
    link = "the one in descant's box" if model == box.NAME else f"[{model}](https://huggingface.co/{model})"
    models = "" if model == box.NAME else f"models: [{model}]\n"
    readme = README.format(title=repo_id.rpartition("/")[2], gradio=GRADIO, models=models, link=link)
    return {"app.py": APP.format(model=model), "requirements.txt": REQUIREMENTS, "README.md": readme}


def require_id(text: str, form: str) -> None:
    """Raise ValueError for what is no id of a repository on the Hub."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", text, re.ASCII):
        raise ValueError(f"{text} is no id on the Hub: give {form}")


def write_space(folder: Path, repo_id: str, model: str) -> None:
    """Write the files of a Space into a folder; raises ValueError."""
    contents = compose_space(repo_id, model)
    require_writable(folder)
    for name, text in contents.items():
        write_whole(folder / name, text.encode())


def push_space(repo_id: str, model: str, private: bool = False, api: HfApi | None = None) -> str:
    """Create or update a Space in one commit; return its address.

    Raises ValueError for ids that are none and for a folder, MissingError for a model that is not on the Hub.
    """
    contents = compose_space(repo_id, model)
    api = api or HfApi()
    ask = partial(ask_hub, retries=PUSH_RETRIES, hub=api.endpoint)
    if model != box.NAME:
        ask(partial(api.model_info, model), model)
    create = partial(api.create_repo, repo_id, repo_type="space", space_sdk="gradio", private=private, exist_ok=True)
    made = ask(create, repo_id).repo_id
    operations = [CommitOperationAdd(name, text.encode()) for name, text in contents.items()]
    commit = partial(api.create_commit, made, operations, repo_type="space", commit_message=f"Listen with {model}")
    ask(commit, made)
    return f"{api.endpoint}/spaces/{made}"
