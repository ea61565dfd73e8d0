"""Fails where a tracked file names the machine it was written on: `python dev/hygiene.py`.

Looked for: this checkout's path, the home directories of root and of the working areas we build in, data folders
beside the repository used as absolute paths, and package indexes other than the public one.
"""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
#: Put together here so that this file does not name them itself.
PLACES = [f"(?<![\\w.-])/{name}\\b" for name in ("work", "root", "tmp/w")]
PUBLIC = frozenset({"pypi.org", "files.pythonhosted.org"})
INDEX_VARIABLES = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX")
PIP_CONFIGS = ("/etc/pip.conf", "~/.config/pip/pip.conf", "~/.pip/pip.conf")


def index_hosts(environ: Mapping[str, str], configs: list[Path]) -> set[str]:
    """Returns the hosts of the private package indexes that this machine's configuration names."""
    urls = [environ.get(name, "") for name in INDEX_VARIABLES]
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(configs)
    for section in parser.sections():
        urls += [value for key, value in parser[section].items() if key.endswith("index-url")]
    hosts = {urlsplit(url).hostname or "" for text in urls for url in text.split()}
    return hosts - PUBLIC - {""}


def faults(root: Path, files: list[Path], patterns: list[str]) -> Iterator[str]:
    """Returns `path:line: match` for every match in a text file."""
    finder = re.compile("|".join(patterns))
    for file in files:
        path = root / file
        if not path.is_file() or b"\0" in (data := path.read_bytes()):
            continue
        for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
            if found := finder.search(line):
                yield f"{file}:{number}: {found.group()}"


def main() -> int:
    """Prints the faults; returns the exit status."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    files = [Path(os.fsdecode(name)) for name in listed.stdout.split(b"\0") if name]
    hosts = index_hosts(os.environ, [Path(name).expanduser() for name in PIP_CONFIGS])
    # A checkout right below / has a name too short to be looked for.
    own = [re.escape(str(ROOT))] if len(ROOT.parts) > 2 else []
    patterns = [*PLACES, *own, *map(re.escape, sorted(hosts))]
    found = list(faults(ROOT, files, patterns))
    for fault in found:
        print(f"names this machine: {fault}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
