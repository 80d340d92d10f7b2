"""What a local Hub remembers: repositories as lists of commits, and the contents of their files."""

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field

LFS_SUFFIXES = (".safetensors", ".parquet", ".bin", ".arrow", ".npz", ".tar", ".gz", ".pt", ".pth", ".ogg", ".wav")


class HubError(Exception):
    """An answer other than 200, with the code that `huggingface_hub` reads from the header X-Error-Code."""

    def __init__(self, status: int, code: str, message: str):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass(frozen=True)
class Entry:
    """One file of one commit; `blob` is its key in the store, `lfs` its sha256 where it went through LFS."""

    oid: str
    size: int
    blob: str
    lfs: str | None = None

    def describe(self, path: str) -> dict:
        lfs = {"lfs": {"oid": self.lfs, "sha256": self.lfs, "size": self.size, "pointerSize": 130}} if self.lfs else {}
        return {"type": "file", "path": path, "oid": self.oid, "size": self.size, **lfs}


@dataclass(frozen=True)
class Commit:
    oid: str
    message: str
    files: dict[str, Entry]


@dataclass
class Repo:
    private: bool = False
    commits: list[Commit] = field(default_factory=list)
    refs: dict[str, str] = field(default_factory=dict)

    def at(self, revision: str) -> Commit:
        oid = self.refs.get(revision, revision)
        for commit in self.commits:
            if commit.oid == oid:
                return commit
        raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")

    def add(self, branch: str, message: str, files: dict[str, Entry]) -> Commit:
        serial = f"{len(self.commits)}{branch}{message}{sorted(files)}"
        commit = Commit(hashlib.sha1(serial.encode()).hexdigest(), message, files)
        self.commits.append(commit)
        self.refs[branch] = commit.oid
        return commit


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class HubStore:
    """All repositories by (type, id), and the blobs they share."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.lock = threading.RLock()

    def create(self, kind: str, repo_id: str, private: bool) -> bool:
        """False where the repository was there already."""
        if (kind, repo_id) in self.repos:
            return False
        self.repos[kind, repo_id] = Repo(private)
        self.repos[kind, repo_id].add("main", "initial commit", {})
        return True

    def repo(self, kind: str, repo_id: str) -> Repo:
        try:
            return self.repos[kind, repo_id]
        except KeyError:
            raise HubError(404, "RepoNotFound", f"Repository not found: {repo_id}") from None

    def put(self, sha256: str, content: bytes) -> None:
        if hashlib.sha256(content).hexdigest() != sha256:
            raise HubError(400, "", "the upload's bytes are not those of its sha256")
        self.blobs[sha256] = content

    def commit(self, repo: Repo, branch: str, lines: bytes) -> Commit:
        """Applies one NDJSON payload of the commit endpoint, wholly or not at all."""
        operations = [json.loads(line) for line in lines.splitlines() if line.strip()]
        header = next(o["value"] for o in operations if o["key"] == "header")
        head = repo.at(branch)
        if header.get("parentCommit") not in (None, head.oid):
            raise HubError(412, "", "A commit has happened since. Please refresh and try again.")
        files = dict(head.files)
        for operation in operations:
            self._apply(operation["key"], operation["value"], files)
        return repo.add(branch, header["summary"], files)

    def _apply(self, key: str, value: dict, files: dict[str, Entry]) -> None:
        if key == "file":
            content = base64.b64decode(value["content"])
            oid = git_oid(content)
            self.blobs[oid] = content
            files[value["path"]] = Entry(oid, len(content), oid)
        elif key == "lfsFile":
            files[value["path"]] = self._lfs_entry(value)
        elif key == "deletedFile":
            files.pop(value["path"], None)
        elif key == "deletedFolder":
            for path in [p for p in files if p.startswith(value["path"].rstrip("/") + "/")]:
                del files[path]

    def _lfs_entry(self, value: dict) -> Entry:
        sha256 = value["oid"]
        if sha256 not in self.blobs:
            raise HubError(400, "", f"LFS object missing: {value['path']}")
        return Entry(git_oid(sha256.encode()), len(self.blobs[sha256]), sha256, lfs=sha256)


def list_folder(files: dict[str, Entry], folder: str, recursive: bool) -> list[dict]:
    """The rows of the tree endpoint below `folder` ("" is the root): its files and the folders between."""
    prefix = folder.rstrip("/") + "/" if folder else ""
    below = {path: entry for path, entry in sorted(files.items()) if path.startswith(prefix)}
    if prefix and not below:
        raise HubError(404, "EntryNotFound", f"{folder} does not exist")
    rows, folders = [], set()
    for path, entry in below.items():
        parts = path[len(prefix) :].split("/")
        folders.update(prefix + "/".join(parts[:depth]) for depth in range(1, len(parts)))
        if recursive or len(parts) == 1:
            rows.append(entry.describe(path))
    wanted = [f for f in sorted(folders) if recursive or "/" not in f[len(prefix) :]]
    return [describe_folder(f) for f in wanted] + rows


def describe_folder(path: str) -> dict:
    return {"type": "directory", "path": path, "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0}
