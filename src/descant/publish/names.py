"""Names as they may be published: Hub ids whole, of a path on this machine the last part."""

import re
from pathlib import Path
from typing import Any

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
OURS = "descant/"  # ids of what comes with descant, which no repository has


def is_hub_id(name: str) -> bool:
    """Whether a name can be a repository on the Hub: `owner/name`, and no file or folder here."""
    return HUB_ID.fullmatch(name) is not None and not Path(name).exists() and not name.startswith(OURS)


def public_name(value: Any) -> Any:
    """A value without the folders of this machine: of a path on it, the last name."""
    if isinstance(value, str) and "/" in value and not is_hub_id(value) and not value.startswith(OURS):
        return Path(value).name
    return value
