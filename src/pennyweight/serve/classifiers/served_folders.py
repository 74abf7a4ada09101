"""The classifiers in the folders that the server was given: found, named and described, not yet loaded."""

from __future__ import annotations

import logging
import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from ...artifact import validation
from ...artifact.file_contents import damage_as_errors, damaged
from ...artifact.layout import MANIFEST, PLAN
from ...artifact.saved_files import SavedFiles, read_files
from ...artifact.validation import StoredBackbone
from ...errors import InputError
from ...predict.onnx_spec import is_onnx_folder

LONGEST_NAME = 200
DIGITS = 12  # of a manifest's SHA-256, in a version

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedFolder:
    """A classifier's folder and the name it is served by.

    Attributes:
        explicit: whether the user named this very classifier, and not only a folder with classifiers in it.
    """

    name: str
    folder: Path
    explicit: bool


@dataclass(frozen=True)
class ClassifierSummary:
    """The description of a classifier in its manifest and plan.

    Attributes:
        parameters: how many were trained; None if that is not known.
        digest: the SHA-256 of the manifest, and so of all files.
        backbone: the one it was trained on; None of an exported model.
    """

    labels: tuple[str, ...]
    multi: bool
    pair: bool
    max_length: int
    parameters: int | None
    digest: str
    backbone: StoredBackbone | None

    @property
    def version(self) -> str:
        """The digest's first digits."""
        return self.digest[:DIGITS]


def same_name(name: str) -> str:
    """A name as it is compared: of the ways in which Unicode writes é and the like, the composed one (NFC).

    macOS and its archives spell folders' names in the other way (NFD), which looks the same to who types a request.
    """
    return unicodedata.normalize("NFC", name)


def find_classifiers(sources: Sequence[str]) -> list[ServedFolder]:
    """The classifiers of the command line's arguments, sorted by name within each.

    Args:
        sources: each a classifier's folder, a folder whose direct children are classifiers, or `NAME=FOLDER`.

    Raises:
        InputError: a folder that is not there or holds no classifier, a name that cannot be one, a name twice.
    """
    found = [one for source in sources for one in _classifiers_of(source)]
    places: dict[str, Path] = {}
    for one in found:
        if one.name in places:
            raise InputError(
                f"two classifiers are named {one.name!r}",
                received=f"{places[one.name]} and {one.folder}",
                remedy="rename one of them: NAME=FOLDER",
            )
        places[one.name] = one.folder
    return found


def find_classifier(sources: Sequence[str], name: str) -> ServedFolder | None:
    """The classifier of this name, as `same_name` gives it, searched again; None if there is none.

    The name is compared with what the folders hold. It is never made into a path.
    """
    for source in sources:
        try:
            held = [one for one in _classifiers_of(source) if one.name == name]
        except InputError:  # a folder that has been emptied or removed since the start
            continue
        if held:
            return held[0]
    return None


def read_summary(folder: Path) -> ClassifierSummary:
    """Read a classifier's manifest and plan.

    Raises:
        ArtifactError: no classifier, or a damaged one.
    """
    with damage_as_errors(folder):
        return _summary_of(read_files(folder, only=(PLAN,)))


def _summary_of(saved: SavedFiles) -> ClassifierSummary:
    path, facts = saved.path(MANIFEST), saved.facts
    labels = validation.check_labels(path, facts)
    reading, max_length = facts.get("reading", {}), facts.get("max_length")
    # Version 0.1 recorded no input specification, and knew no pairs.
    pair = reading.get("pair", False) if isinstance(reading, dict) else None
    if type(pair) is not bool or type(max_length) is not int:
        raise damaged(path, "the manifest lacks the settings for reading texts")
    return ClassifierSummary(
        labels.names, labels.multi, pair, max_length, validation.check_plan(saved, PLAN).count.trainable,
        sha256(saved.manifest).hexdigest(), validation.stored_backbone(path, facts),
    )  # fmt: skip


def _classifiers_of(source: str) -> Iterator[ServedFolder]:
    folder = Path(source)
    if os.path.isdir(folder):
        if _is_classifier(folder):
            yield ServedFolder(_checked_name(folder.resolve().name, source), folder, True)
            return
        children = list(_children(folder))
        if not children:
            raise InputError(
                "no classifier in this folder",
                where=folder,
                expected="a folder that `pennyweight train` wrote, or one that holds such folders",
            )
        yield from children
        return
    name, assigned, rest = source.partition("=")
    if not assigned:
        raise InputError("no such folder", where=source, expected="a classifier's folder or a folder of classifiers")
    if not _is_classifier(Path(rest)):
        raise InputError("no classifier in this folder", where=rest, received=source, expected="NAME=FOLDER")
    yield ServedFolder(_checked_name(name, source), Path(rest), True)


def _children(folder: Path) -> Iterator[ServedFolder]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir())
    except OSError as error:
        raise InputError(f"the folder cannot be read ({error.strerror})", where=folder) from error
    for name in names:
        if not os.path.lexists(folder / name / MANIFEST):
            continue
        if name.startswith("."):  # hidden; among others what is being written, or was when its writer was killed
            continue
        if _is_name(same_name(name)):
            yield ServedFolder(same_name(name), folder / name, False)
        else:
            _log.warning("not served: %r in %s, because its name is not valid for a classifier", name, folder)


def _is_classifier(folder: Path) -> bool:
    return os.path.lexists(folder / MANIFEST) or is_onnx_folder(folder)


def _is_name(name: str) -> bool:
    """Whether a name can stand in a URL's path and in a log: one printable word or more, without slashes."""
    return 0 < len(name) <= LONGEST_NAME and name.isprintable() and "/" not in name and name.strip(".") != ""


def _checked_name(name: str, source: str) -> str:
    name = same_name(name)
    if not _is_name(name):
        raise InputError(
            "not a valid name for a classifier",
            where=repr(source),
            expected=f"1 to {LONGEST_NAME} printable characters without a slash",
            received=repr(name),
            remedy="rename it: NAME=FOLDER",
        )
    return name


def common_backbone(found: Iterable[tuple[str, StoredBackbone]]) -> StoredBackbone:
    """The backbone that all classifiers were trained on.

    Args:
        found: of each classifier its name and its backbone.

    Raises:
        InputError: naming those whose backbone is not that of the others.
    """
    groups: dict[str, list[tuple[str, StoredBackbone]]] = {}
    for name, backbone in found:
        groups.setdefault(repr((backbone.fingerprint, sorted((backbone.computes or {}).items()))), []).append(
            (name, backbone)
        )  # fmt: skip
    most, *others = sorted(groups.values(), key=len, reverse=True)
    if others:
        refuse_backbones([name for group in others for name, _ in group], most[0][1].name)
    return most[0][1]


def refuse_backbones(names: Sequence[str], expected: str) -> None:
    """Raise the error for classifiers of another backbone than the server's."""
    listed = ", ".join(repr(name) for name in sorted(names)[:20])
    raise InputError(
        f"{len(names)} of the classifiers were trained on another backbone: {listed}{', ...' * (len(names) > 20)}",
        expected=f"the backbone {expected} of the others",
        remedy="serve them with another process, or move them out of the folder",
    )
