"""`python -m libs.catalog check FILE` · `python -m libs.catalog hash` (a tenant's key on standard input)."""

from __future__ import annotations

import argparse
import getpass
import hashlib
import sys

from libs.catalog.faults import CatalogError
from libs.catalog.load import load


def _check(file: str) -> int:
    try:
        catalog = load(file)
    except CatalogError as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"{file}: good: {len(catalog.providers)} providers, {len(catalog.models)} models, "
        f"{len(catalog.policies)} policies, {len(catalog.tenants)} tenants, version {catalog.version}"
    )
    return 0


def _hash() -> int:
    key = (getpass.getpass("Tenant key: ") if sys.stdin.isatty() else sys.stdin.readline()).strip()
    if not key:
        print("no key on standard input", file=sys.stderr)
        return 1
    print(hashlib.sha256(key.encode()).hexdigest())
    return 0


def main() -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m libs.catalog", description="Works on catalog files.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="say what is wrong with a file").add_argument("file")
    commands.add_parser("hash", help="the key_sha256 of a tenant's key, read from standard input")
    arguments = parser.parse_args()
    return _check(arguments.file) if arguments.command == "check" else _hash()


if __name__ == "__main__":
    raise SystemExit(main())
