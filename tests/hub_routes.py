"""What a local Hub answers: one function an endpoint, and the table that finds it."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote

import yaml
from hub_store import LFS_SUFFIXES, Entry, HubError, HubStore, Repo, describe_folder, list_folder

USER = "tester"
TOKEN = "hf_local"
EPOCH = "2026-01-01T00:00:00.000Z"
KIND = {"datasets": "dataset", "spaces": "space", "models": "model", None: "model"}


@dataclass
class Request:
    """What a route reads of a request; header names are in lower case."""

    groups: dict[str, str | None]
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict:
        return json.loads(self.body)

    @property
    def base(self) -> str:
        return f"http://{self.headers['host']}"

    @property
    def kind(self) -> str:
        return KIND[self.groups["kind"]]


@dataclass
class Reply:
    body: bytes | dict | list = b""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/json"


def _error(error: HubError) -> Reply:
    headers = (("X-Error-Code", error.code), ("X-Error-Message", error.message))
    return Reply({"error": error.message}, error.status, headers)


def _require_write(request: Request, namespace: str) -> None:
    if request.headers.get("authorization") != f"Bearer {TOKEN}":
        raise HubError(401, "", "Invalid username or password.")
    if namespace != USER:
        raise HubError(403, "", f"You don't have the rights to write under the namespace {namespace!r}.")


def _repo(store: HubStore, request: Request) -> Repo:
    return store.repo(request.kind, request.groups["id"])


def _files(store: HubStore, request: Request) -> dict[str, Entry]:
    return _repo(store, request).at(request.groups["rev"] or "main").files


def whoami(store: HubStore, request: Request) -> Reply:
    token = {"type": "access_token", "accessToken": {"role": "write", "displayName": "local"}}
    return Reply({"type": "user", "name": USER, "fullname": "Tester", "orgs": [], "auth": token})


def validate_yaml(store: HubStore, request: Request) -> Reply:
    return Reply({"errors": [], "warnings": []})


def create_repo(store: HubStore, request: Request) -> Reply:
    asked = request.json()
    namespace, kind = asked.get("organization") or USER, asked.get("type") or "model"
    _require_write(request, namespace)
    repo_id = f"{namespace}/{asked['name']}"
    new = store.create(kind, repo_id, asked.get("visibility") == "private" or bool(asked.get("private")))
    prefix = "" if kind == "model" else f"{kind}s/"
    answer = {"url": f"{request.base}/{prefix}{repo_id}", "name": repo_id, "id": repo_id}
    return Reply(answer if new else {**answer, "error": "You already created this repo"}, 200 if new else 409)


def delete_repo(store: HubStore, request: Request) -> Reply:
    asked = request.json()
    namespace = asked.get("organization") or USER
    _require_write(request, namespace)
    store.repos.pop((asked.get("type") or "model", f"{namespace}/{asked['name']}"), None)
    return Reply({})


def check_access(store: HubStore, request: Request) -> Reply:
    _repo(store, request)
    if request.groups["write"]:
        _require_write(request, request.groups["id"].split("/")[0])
    return Reply({})


def preupload(store: HubStore, request: Request) -> Reply:
    _require_write(request, request.groups["id"].split("/")[0])
    head = _repo(store, request).at(request.groups["rev"])

    def mode(path: str) -> dict:
        entry = head.files.get(path)
        known = {"oid": entry.lfs or entry.oid} if entry else {}
        return {"path": path, "uploadMode": "lfs" if path.endswith(LFS_SUFFIXES) else "regular", **known}

    files = [{**mode(f["path"]), "shouldIgnore": False} for f in request.json()["files"]]
    return Reply({"files": files, "commitOid": head.oid})


def commit(store: HubStore, request: Request) -> Reply:
    repo_id = request.groups["id"]
    _require_write(request, repo_id.split("/")[0])
    made = store.commit(_repo(store, request), request.groups["rev"], request.body)
    return Reply({"success": True, "commitOid": made.oid, "commitUrl": f"{request.base}/{repo_id}/commit/{made.oid}"})


def lfs_batch(store: HubStore, request: Request) -> Reply:
    _require_write(request, request.groups["id"].split("/")[0])

    def answer(asked: dict) -> dict:
        upload = {"upload": {"href": f"{request.base}/_lfs/{asked['oid']}", "header": {}}}
        actions = {} if asked["oid"] in store.blobs else {"actions": upload}
        return {"oid": asked["oid"], "size": asked["size"], "authenticated": True, **actions}

    objects = [answer(asked) for asked in request.json()["objects"]]
    return Reply({"transfer": "basic", "objects": objects}, content_type="application/vnd.git-lfs+json")


def lfs_upload(store: HubStore, request: Request) -> Reply:
    store.put(request.groups["sha256"], request.body)
    return Reply()


def info(store: HubStore, request: Request) -> Reply:
    repo = _repo(store, request)
    head = repo.at(request.groups["rev"] or "main")
    with_blobs = "blobs" in request.query

    def sibling(path: str, entry: Entry) -> dict:
        described = entry.describe(path)
        extra = {"size": entry.size, "blobId": entry.oid, **{k: described[k] for k in ("lfs",) if k in described}}
        return {"rfilename": path, **(extra if with_blobs else {})}

    siblings = [sibling(path, entry) for path, entry in sorted(head.files.items())]
    flags = {"private": repo.private, "gated": False, "disabled": False, "downloads": 0, "likes": 0, "tags": []}
    dates = {"lastModified": EPOCH, "createdAt": EPOCH}
    card = {"cardData": read_card(store.blobs[head.files["README.md"].blob])} if "README.md" in head.files else {}
    named = {"_id": "0", "id": request.groups["id"], "sha": head.oid}
    return Reply({**named, "siblings": siblings, **flags, **dates, **card})


def read_card(text: bytes) -> dict:
    """The metadata at the top of a card."""
    found = re.match(rb"---\n(.*?)\n---", text, re.DOTALL)
    return yaml.safe_load(found[1]) if found else {}


def list_refs(store: HubStore, request: Request) -> Reply:
    refs = _repo(store, request).refs
    branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": oid} for n, oid in refs.items()]
    return Reply({"branches": branches, "tags": [], "converts": [], "pullRequests": []})


def list_commits(store: HubStore, request: Request) -> Reply:
    history = reversed(_repo(store, request).commits)
    rows = [{"id": c.oid, "title": c.message, "message": "", "authors": [], "date": EPOCH} for c in history]
    return Reply(rows)


def tree(store: HubStore, request: Request) -> Reply:
    recursive = request.query.get("recursive", ["false"])[0].lower() in ("true", "1")
    return Reply(list_folder(_files(store, request), request.groups["path"] or "", recursive))


def paths_info(store: HubStore, request: Request) -> Reply:
    files = _files(store, request)
    is_json = request.body[:1] == b"{"
    asked = request.json()["paths"] if is_json else parse_qs(request.body.decode())["paths"]
    rows = [files[path].describe(path) for path in asked if path in files]
    folders = [path for path in asked if any(name.startswith(path.rstrip("/") + "/") for name in files)]
    return Reply(rows + [describe_folder(path) for path in folders])


def resolve(store: HubStore, request: Request) -> Reply:
    """A file's bytes, whole or the asked range, with the headers from which the client names its cache entry."""
    head = _repo(store, request).at(request.groups["rev"])
    entry = head.files.get(request.groups["path"])
    if entry is None:
        missing = _error(HubError(404, "EntryNotFound", f"Entry not found: {request.groups['path']}"))
        missing.headers += (("X-Repo-Commit", head.oid),)  # by which the client remembers that there is none
        return missing
    data = store.blobs[entry.blob]
    tag = f'"{entry.lfs or entry.oid}"'
    headers = [("X-Repo-Commit", head.oid), ("ETag", tag), ("Accept-Ranges", "bytes")]
    if entry.lfs:
        headers += [("X-Linked-Etag", tag), ("X-Linked-Size", str(entry.size))]
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if not asked:
        return Reply(data, 200, tuple(headers), "application/octet-stream")
    first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
    headers.append(("Content-Range", f"bytes {first}-{last}/{len(data)}"))
    return Reply(data[first : last + 1], 206, tuple(headers), "application/octet-stream")


_API = r"/api/(?P<kind>models|datasets|spaces)/(?P<id>[^/]+/[^/]+)"
_REV = r"/(?P<rev>[^/]+)"
_REPO = r"/(?:(?P<kind>datasets|spaces)/)?(?P<id>[^/]+/[^/]+?)"

ROUTES: list[tuple[str, Callable[[HubStore, Request], Reply]]] = [
    (r"GET /api/whoami-v2", whoami),
    (r"POST /api/validate-yaml", validate_yaml),
    (r"POST /api/repos/create", create_repo),
    (r"DELETE /api/repos/delete", delete_repo),
    (rf"GET {_API}/auth-check(?P<write>/write)?", check_access),
    (rf"POST {_API}/preupload{_REV}", preupload),
    (rf"POST {_API}/commit{_REV}", commit),
    (rf"GET {_API}/refs", list_refs),
    (rf"GET {_API}/commits{_REV}", list_commits),
    (rf"GET {_API}/tree{_REV}(?:/(?P<path>.*))?", tree),
    (rf"POST {_API}/paths-info{_REV}", paths_info),
    (rf"GET {_API}(?:/revision{_REV})?", info),
    (rf"POST {_REPO}\.git/info/lfs/objects/batch", lfs_batch),
    (r"PUT /_lfs/(?P<sha256>[0-9a-f]{64})", lfs_upload),
    (rf"(?:GET|HEAD) {_REPO}/resolve{_REV}/(?P<path>.+)", resolve),
]


def answer(store: HubStore, line: str, headers: dict[str, str], body: bytes) -> Reply:
    """The reply to the request whose first line is `line` ("GET /path?query"); a path keeps its %2F until split."""
    target, _, query = line.partition("?")
    for pattern, route in ROUTES:
        match = re.fullmatch(pattern, target)
        if match:
            groups = {"rev": None, **{name: value and unquote(value) for name, value in match.groupdict().items()}}
            return _routed(store, route, Request(groups, parse_qs(query), headers, body))
    return _error(HubError(404, "NotFound", f"no route {line}"))


def _routed(store: HubStore, route: Callable[[HubStore, Request], Reply], request: Request) -> Reply:
    try:
        return route(store, request)
    except HubError as error:
        return _error(error)
