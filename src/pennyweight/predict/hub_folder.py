"""A classifier's folder by its name: on this machine, or in a repository of the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from ..artifact.layout import ITEMS
from ..errors import ArtifactError, StorageError

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def local_folder(name: str | Path) -> Path:
    """The folder of that name; where there is none, that of the hub repository `owner/name`, downloaded if it changed.

    Files of a repository lie as they are below HF_HOME/pennyweight, since a classifier's files must not be links.

    Raises:
        ArtifactError: no such repository, or one that may not be read.
        StorageError: the hub cannot be reached, and the repository was not downloaded before.
    """
    path = Path(name)
    # Where its parent is a folder here, a name such as runs/first is a slip, and nobody else's business.
    if path.exists() or (path.parent.is_dir() and path.parent != Path()) or not _REPOSITORY.fullmatch(str(name)):
        return path
    from huggingface_hub import constants, errors, snapshot_download

    here = Path(constants.HF_HOME) / "pennyweight" / str(name).replace("/", "--")
    wanted = [*ITEMS, *(f"{item}/*" for item in ITEMS)]
    try:
        return Path(snapshot_download(str(name), local_dir=here, allow_patterns=wanted))
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise ArtifactError(
            f"neither a folder nor a repository on the hub: {name}",
            expected="a saved classifier, or owner/name of a pushed one",
            remedy="check the name; a private repository needs `hf auth login`",
        ) from error
    except (errors.LocalEntryNotFoundError, errors.HfHubHTTPError, OSError) as error:
        raise StorageError(
            f"no folder {name}, and the hub cannot be reached",
            remedy=f"check the path or the network, or copy a folder made by `hf download {name} --local-dir FOLDER`",
        ) from error
