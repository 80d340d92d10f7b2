"""Pushes a model folder to the Hub in one commit, patiently."""

from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatch
from functools import partial
from os.path import exists
from pathlib import Path
from typing import TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoUrl
from huggingface_hub.errors import HFValidationError

from descant.hub_client import (
    PUSH_RETRIES,
    SHIPPED,
    DeniedError,
    MissingError,
    NetworkError,
    PublishError,
    ask_hub,
)
from descant.publish.card import OUR_RESULTS, compose_card, write_eval_results
from descant.publish.code import PUBLISHED, Content, collect_files, list_files
from descant.publish.facts import ModelFacts, read_facts
from descant.publish.licence import complete_licences, is_on_hub

Result = TypeVar("Result")


def publish_folder(
    folder: str | Path, repo_id: str, *, private: bool = False, licence: str | None = None,
    base_model: str | None = None, message: str | None = None, api: HfApi | None = None,
) -> str:  # fmt: skip
    """Push a model or adapter folder with its card and code; return the address of the commit.

    All files arrive in one commit or none does. Files of an earlier push that are no longer part of the model go in
    the same commit; files that somebody else put there stay.

    Args:
        repo_id: "name/model", or "model" under the name of the token's owner.
        licence: stricter than or equal to what the training data ask for; None takes just that.
        base_model: the Hub id of an adapter's base, where the folder names a local path.

    Raises:
        PublishError: nothing publishable in the folder, a licence that the data forbid, no permission, or a Hub that
            stays out of reach.
    """
    api = api or HfApi()
    list_files(Path(folder))  # refuses what is not of this folder before any of it is read
    facts = read_facts(folder, base_model)
    require_bases_on_hub(facts, api, repo_id)
    if facts.part_licences:
        ask = partial(complete_licences, facts.part_licences, api)
        facts = replace(facts, part_licences=_ask(ask, api, repo_id))
    require_public_captioner(facts)
    compose_card(facts, repo_id, licence)  # refuses a wrong licence before anything reaches the Hub
    repo = check_push(repo_id, private=private, api=api)
    files = collect_files(facts, compose_card(facts, repo, licence), repo) | write_eval_results(facts)

    def commit() -> str:
        operations = _operations(api, repo, files)
        return api.create_commit(repo, operations, commit_message=message or f"Publish {Path(folder).name}").commit_url

    return _ask(commit, api, repo)


def require_public_captioner(facts: ModelFacts) -> None:
    """Raise PublishError where a classifier's captioner is a folder of this machine, which nobody else has."""
    captioner = facts.config.get("captioner")
    if captioner and exists(captioner):
        raise PublishError(
            f"the classifier hears with {captioner}, a folder of this machine: push that first and write its id as "
            f"`captioner` into {facts.folder / 'config.json'}"
        )


def require_bases_on_hub(facts: ModelFacts, api: HfApi, repo_id: str) -> None:
    """Raise PublishError where the Hub has no such model as a part, an adapter's base or a classifier's captioner.

    What is a folder here is refused elsewhere. But a path may look like an id, and is no folder to whoever pushes from
    another place than that in which the model was made.
    """
    base = facts.base_model if facts.is_adapter and not facts.parts else None
    named = [name for name in (*facts.parts, base, facts.config.get("captioner")) if name and not exists(name)]
    for name in named:
        if name not in SHIPPED and not _ask(partial(is_on_hub, name, api), api, repo_id):
            raise PublishError(
                f"{facts.folder} needs {name}, a model that {api.endpoint} has not or does not show you: publish "
                "it first, and give its id where the folder names it"
            )


def check_push(repo_id: str, *, private: bool = False, api: HfApi | None = None) -> str:
    """Make sure that one can write to `repo_id`, and create it; return its full id.

    For the start of a training run: a missing permission shows before hours are spent.

    Raises:
        PublishError: in one sentence what is missing.
    """
    api = api or HfApi()
    url: RepoUrl = _ask(partial(api.create_repo, repo_id, private=private, exist_ok=True), api, repo_id)

    def ask_where_to_upload() -> None:
        # Answered to those who may write only, and changes nothing.
        api.preupload_lfs_files(url.repo_id, [CommitOperationAdd("README.md", b"")])

    _ask(ask_where_to_upload, api, url.repo_id)
    return url.repo_id


def _operations(
    api: HfApi, repo_id: str, files: dict[str, Content]
) -> list[CommitOperationAdd | CommitOperationDelete]:
    """Return what a commit does, anew for each attempt: after a lost answer the client leaves out what is there."""
    additions = [CommitOperationAdd(path, content) for path, content in sorted(files.items())]
    present = api.list_repo_files(repo_id)
    ours = [path for path in present if "/" not in path and any(fnmatch(path, pattern) for pattern in PUBLISHED)]
    ours += [path for path in present if fnmatch(path, OUR_RESULTS)]
    return additions + [CommitOperationDelete(path) for path in ours if path not in files]


def _ask(call: Callable[[], Result], api: HfApi, repo_id: str) -> Result:
    """Return what the Hub answers; raise PublishError where it refuses, or stays out of reach."""
    try:
        return ask_hub(call, repo_id, retries=PUSH_RETRIES, hub=api.endpoint)
    except (DeniedError, MissingError) as error:
        if isinstance(error.__cause__, HFValidationError):
            raise PublishError(str(error)) from error
        raise PublishError(
            f"no permission to write to {repo_id} on {api.endpoint}: log in with a token that may write there "
            "(`hf auth login`, or HF_TOKEN), or choose a repository of yours"
        ) from error
    except NetworkError as error:
        raise PublishError(f"{error}; nothing was published") from error
