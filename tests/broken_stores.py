"""Stores that are broken on purpose, one for each law. `test_conformance.py` runs this file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from broken_plugins import suites
from folder_store_suite import FolderStoreSuite, files_of, size

from letstune.training.stores import DirectoryStore, Store


def copy(source: Path, target: Path) -> None:
    """Copy in small steps, in each of which a process may be killed."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.rglob("*")):
        if path.is_dir():
            (target / path.relative_to(source)).mkdir(exist_ok=True)
        else:
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            (target / path.relative_to(source)).write_bytes(path.read_bytes())


class InPlace(DirectoryStore):
    """Law: put_is_all_or_nothing_under_sigkill[folder]."""

    def put(self, name: str, folder: Path) -> str:
        if (self.root / name).exists():
            raise FileExistsError(name)
        copy(folder, self.root / name)
        return name


class WithTornFiles(DirectoryStore):
    """Law: put_is_all_or_nothing_under_sigkill[file]."""

    def put(self, name: str, folder: Path) -> str:
        self.root.mkdir(exist_ok=True)
        paths = [path for path in folder.rglob("*") if path.is_file()]
        if len(paths) > 1 or paths[0].parent != folder:
            return super().put(name, folder)
        target = self.root / f"{name}--{paths[0].name}"
        with target.open("xb") as file:
            for byte in paths[0].read_bytes():
                file.write(bytes([byte]))
        return target.name


class Forgetful(DirectoryStore):
    """Law: a_new_process_finds_all."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.names: dict[str, str] = {}

    def put(self, name: str, folder: Path) -> str:
        uri = f"{len(self.names)}"
        self.names[uri] = super().put(name, folder)
        return uri

    def get(self, uri: str, folder: Path) -> None:
        if uri not in self.names:
            raise FileNotFoundError(uri)
        super().get(self.names[uri], folder)

    def list(self) -> Any:
        return iter([*self.names])

    def delete(self, uri: str) -> None:
        if uri in self.names:
            super().delete(self.names.pop(uri))


class Overwriting(DirectoryStore):
    """Law: nothing_is_overwritten."""

    def put(self, name: str, folder: Path) -> str:
        shutil.rmtree(self.root / name, ignore_errors=True)
        copy(folder, self.root / ".new" / f"{name}-copy")
        (self.root / ".new" / f"{name}-copy").rename(self.root / name)
        return name


class WithoutEmptyFiles(DirectoryStore):
    """Law: empty_files_are_kept[beside]."""

    def put(self, name: str, folder: Path) -> str:
        for path in folder.rglob("*"):
            if path.is_file() and not path.stat().st_size:
                path.unlink()
        return super().put(name, folder)


class WithAsciiNames(DirectoryStore):
    """Law: names_of_files_are_kept[folders]."""

    def put(self, name: str, folder: Path) -> str:
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rename(path.with_name(path.name.encode("ascii", "replace").decode()))
        return super().put(name, folder)


class WithSafeNames(DirectoryStore):
    """Law: names_of_files_are_kept[signs]."""

    def put(self, name: str, folder: Path) -> str:
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rename(path.with_name(path.name.replace("%25", "%").replace(" ", "+")))
        return super().put(name, folder)


class WhereWritersMeet(DirectoryStore):
    """Law: two_writers_never_meet."""

    def put(self, name: str, folder: Path) -> str:
        beside = self.root / ".new" / "beside"
        copy(folder, beside)
        return super().put(name, beside)


class DeletingOnce(DirectoryStore):
    """Law: delete_is_idempotent."""

    def delete(self, uri: str) -> None:
        if not (self.root / uri).exists():
            raise FileNotFoundError(uri)
        super().delete(uri)


class HidingLeftovers(DirectoryStore):
    """Law: put_is_all_or_nothing_under_sigkill[folder]."""

    def list(self) -> Any:
        return (uri for uri in super().list() if not uri.startswith(".new"))


class WithoutAnEnd(DirectoryStore):
    """Law: list_tells_what_is_there."""

    def list(self) -> Any:
        return iter(list(super().list())[:-1])


class RememberingContents(DirectoryStore):
    """Law: damage_is_noticed."""

    def put(self, name: str, folder: Path) -> str:
        shutil.copytree(folder, self.root.with_name("cache") / name)
        uri = super().put(name, folder)
        (self.root.with_name("cache") / name).rename(self.root.with_name("cache") / uri)
        return uri

    def get(self, uri: str, folder: Path) -> None:
        if not (self.root / uri).exists():
            raise FileNotFoundError(uri)
        copy(self.root.with_name("cache") / uri, folder)


class Unsure(RememberingContents):
    """Law: damage_is_noticed.

    As if it could not be reached: so no damage could ever be written off.
    """

    def get(self, uri: str, folder: Path) -> None:
        super().get(uri, folder)
        if any(path.read_bytes() not in map(Path.read_bytes, files_of(folder))
               for path in files_of(self.root / uri)):  # fmt: skip
            raise OSError("this is odd")


class Mending(RememberingContents):
    """Law: truncation_is_noticed."""

    size = Store.size  # so that nothing is noticed before it is there

    def get(self, uri: str, folder: Path) -> None:
        if size(self.root / uri) == size(self.root.with_name("cache") / uri):
            DirectoryStore.get(self, uri, folder)
        else:
            super().get(uri, folder)


class ForgettingWhatIsAway(DirectoryStore):
    """Law: a_store_that_is_away_has_lost_nothing."""

    size = Store.size  # which tells nothing

    def get(self, uri: str, folder: Path) -> None:
        if not (self.root / uri).exists():
            raise FileNotFoundError(uri)
        super().get(uri, folder)


class WithUnsyncedBytes(DirectoryStore):
    """Law: what_is_put_is_synced."""

    def put(self, name: str, folder: Path) -> str:
        copy(folder, self.root / ".new" / f"{name}-copy")
        (self.root / ".new" / f"{name}-copy").rename(self.root / name)
        for kept in (self.root / name, self.root):
            handle = os.open(kept, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
        return name


class WithUnsyncedNames(DirectoryStore):
    """Law: what_is_put_is_synced."""

    def put(self, name: str, folder: Path) -> str:
        for path in folder.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file)
        folder.rename(self.root / name)
        return name


class CountingTheDisk(DirectoryStore):
    """Law: size_is_that_of_what_is_got."""

    def size(self, uri: str) -> int:
        """Count what a folder itself takes, too, as `du` does."""
        kept = self.root / uri
        folders = [kept, *kept.rglob("*")]
        return super().size(uri) + sum(f.stat().st_size for f in folders if f.is_dir())


class WithLinks(DirectoryStore):
    """Law: what_is_got_is_a_copy."""

    def get(self, uri: str, folder: Path) -> None:
        source = self.root / uri
        if not source.is_dir():
            return super().get(uri, folder)
        shutil.copytree(source, folder, dirs_exist_ok=True, copy_function=os.link)
        return None


class WithItsOwnErrors(DirectoryStore):
    """Law: what_is_not_there_is_a_file_not_found_error."""

    def get(self, uri: str, folder: Path) -> None:
        if not (self.root / uri).exists():
            raise KeyError(uri)
        super().get(uri, folder)


class Flat(DirectoryStore):
    """Law: what_is_put_is_got."""

    def put(self, name: str, folder: Path) -> str:
        for path in [path for path in folder.rglob("*") if path.is_file()]:
            path.rename(folder / path.name)
        for path in list(folder.iterdir()):
            if path.is_dir():
                shutil.rmtree(path)
        return super().put(name, folder)


class WithAPage(DirectoryStore):
    """Law: many_files_are_kept."""

    def get(self, uri: str, folder: Path) -> None:
        super().get(uri, folder)
        for path in [path for path in sorted(folder.rglob("*")) if path.is_file()][100:]:
            path.unlink()


class WithALimit(DirectoryStore):
    """Law: a_large_checkpoint_is_kept."""

    def put(self, name: str, folder: Path) -> str:
        for path in folder.rglob("*"):
            if path.is_file() and path.stat().st_size > 2**20:
                os.truncate(path, 2**20)
        return super().put(name, folder)


class FromItsStageOnly(DirectoryStore):
    """Law: a_folder_from_elsewhere_is_kept."""

    def put(self, name: str, folder: Path) -> str:
        return super().put(name, self.root / ".new" / folder.name)


class LosingWhatIsOld(DirectoryStore):
    """Law: a_run_can_be_interrupted_and_resumed."""

    def put(self, name: str, folder: Path) -> str:
        for old in [uri for uri in self.list() if not uri.startswith(".new")][:-2]:
            self.delete(old)
        return super().put(name, folder)


def fixtures(cls: Any) -> dict[str, Any]:
    return {
        "store": lambda self, tmp_path: cls(tmp_path / "store"),
        "large": lambda self: 2_000_000,
    }


globals().update(suites(globals(), FolderStoreSuite, fixtures))
