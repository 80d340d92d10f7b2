"""A scoring protocol as a Space on the Hub, where `evaluate.load("user/lp_musiccaps")` finds it."""

from functools import partial
from importlib.resources import as_file, files

from huggingface_hub import HfApi

from descant.evaluation.scoring import PROTOCOLS
from descant.hub_client import PUSH_RETRIES, ask_hub


def push_metric(protocol: str, repo_id: str, private: bool = False, api: HfApi | None = None) -> str:
    """Create or update the Space in one commit; return its address.

    The Space's name must be the protocol's: `evaluate` looks for `<name>.py` in it. The Space installs descant from
    PyPI (`requirements.txt`), and so must whoever loads the metric.
    """
    if protocol not in PROTOCOLS or repo_id.split("/")[-1] != protocol:
        raise ValueError(
            f"a Space of {repo_id!r} cannot hold {protocol!r}: name it USER/{' or USER/'.join(PROTOCOLS)}"
        )
    api = api or HfApi()
    ask = partial(ask_hub, source=repo_id, retries=PUSH_RETRIES, hub=api.endpoint)
    create = partial(api.create_repo, repo_id, repo_type="space", space_sdk="gradio", private=private, exist_ok=True)
    repo_id = ask(create).repo_id
    with as_file(files("descant.evaluation").joinpath("metrics", protocol)) as folder:
        message = f"Score as {protocol} does"
        ignored = ["__pycache__/*"]
        upload = partial(api.upload_folder, repo_id=repo_id, repo_type="space", folder_path=folder)
        ask(partial(upload, commit_message=message, ignore_patterns=ignored))
    return f"{api.endpoint}/spaces/{repo_id}"
