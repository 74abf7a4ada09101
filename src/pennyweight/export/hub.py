"""Uploading a saved classifier to the Hugging Face hub, or listing what would be uploaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..artifact.layout import MANIFEST
from ..artifact.model_card import is_local
from ..artifact.saved_files import LARGEST_TEXT, read_files
from ..artifact.validation import backbone_name
from ..errors import ArtifactError, InputError, StorageError
from ..storage.untrusted_folder import open_folder, read_inside

REPORT = "report.html"


@dataclass(frozen=True)
class HubUpload:
    """Files for a hub repository: `files` are (name, bytes); `address` is None until they are sent."""

    repository: str
    files: tuple[tuple[str, int], ...]
    address: str | None = None

    def __str__(self) -> str:
        total = sum(size for _, size in self.files)
        lines = [f"  {name}  {size:,} bytes" for name, size in self.files]
        state = f"sent to {self.address}" if self.address else f"would be sent to {self.repository} (dry run)"
        return "\n".join([*lines, f"{len(self.files)} files, {total:,} bytes: {state}"])


def push(
    folder: str | Path,
    repository: str,
    *,
    send: bool = False,
    private: bool = True,
    report: bool = False,
    token: str | None = None,
) -> HubUpload:
    """List the files of a saved classifier, and send them if `send`; HF_ENDPOINT may name another hub.

    Only the files of the manifest are sent, each one checked: no checkpoints, no pictures.

    Args:
        repository: `owner/name`.
        private: make a new repository private.
        report: send report.html too; it quotes test texts.
        token: None for the one that `hf auth login` stored.

    Raises:
        InputError: for a name that cannot be a repository's, or a classifier whose backbone is a local folder.
        StorageError: when the hub cannot be reached or refuses.
    """
    folder = Path(folder)
    saved = read_files(folder)
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise InputError("not a repository on the hub", expected="owner/name", received=repository)
    backbone = backbone_name(saved)
    if is_local(backbone):
        raise ArtifactError(
            "the backbone is a folder on this machine, so others cannot load it",
            received=backbone,
            remedy="train with a hub id as --backbone, or export --format merged and publish that",
        )
    # The bytes that were checked are sent, even if the folder changes meanwhile.
    files = saved.content | {MANIFEST: saved.manifest} | ({REPORT: _report(folder)} if report else {})
    upload = HubUpload(repository, tuple((name, len(content)) for name, content in files.items()))
    if not send:
        return upload
    return HubUpload(repository, upload.files, _send(files, repository, private, token))


def _report(folder: Path) -> bytes:
    try:
        with open_folder(folder) as root:
            return read_inside(root, REPORT, LARGEST_TEXT)
    except OSError as error:
        problem = "a file to send is missing" if isinstance(error, FileNotFoundError) else "a file cannot be sent"
        raise ArtifactError(problem, where=folder / REPORT) from error


def _send(files: dict[str, bytes], repository: str, private: bool, token: str | None) -> str:
    from huggingface_hub import CommitOperationAdd, HfApi, errors

    api = HfApi(token=token)
    operations = [CommitOperationAdd(name, content) for name, content in files.items()]
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        done = api.create_commit(repository, operations, commit_message="A Pennyweight classifier")
    except (errors.HFValidationError, getattr(errors, "HfUriError", errors.HFValidationError)) as error:
        raise InputError("not a repository on the hub", received=repository) from error
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]  # the HTTP library's
        raise StorageError(
            f"the upload to the hub failed ({type(error).__name__})",
            where=repository,
            received=str(error).splitlines()[0] if str(error) else None,
            remedy="check the network and `hf auth login`; no local file was changed",
        ) from error
    return str(done.commit_url)
