"""Make `gen/` from `protos/`, and make the project importable and runnable from this interpreter's environment.

    .venv/bin/python dev/generate.py

Writes gen/pointsman/** (messages, their stubs, services, their stubs), pointsman.pth into site-packages (the project
and gen/ become importable from anywhere), and the `pointsman` command beside the interpreter.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROTOS = ROOT / "protos"
GEN = ROOT / "gen"
# `sh` finds the interpreter beside this file and hands the same file to it; to Python the first lines are a string.
# A `#!` naming the interpreter would break on a path with a space, and when the directory is moved.
COMMAND = """\
#!/bin/sh
'''exec' "$(dirname "$0")/python" "$0" "$@"
' '''
from cli.app import main

raise SystemExit(main())
"""


def generate() -> None:
    """Compile every proto; files of protos that are gone are removed. Ends the process where protoc finds a fault."""
    from grpc_tools import protoc  # type: ignore[import-untyped]

    GEN.mkdir(exist_ok=True)
    before = {path for path in GEN.rglob("*_pb2*") if path.is_file()}
    scripts = Path(sysconfig.get_path("scripts"))
    sources = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.rglob("*.proto"))
    status = protoc.main(
        [
            "protoc",
            f"--proto_path={PROTOS}",
            f"--proto_path={Path(protoc.__file__).with_name('_proto')}",
            f"--python_out={GEN}",
            f"--pyi_out={GEN}",
            f"--grpc_python_out={GEN}",
            f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
            f"--mypy_grpc_out=quiet:{GEN}",
            *sources,
        ]
    )
    if status != 0:
        raise SystemExit(status)
    current = {source.removesuffix(".proto") for source in sources}
    for path in before:
        if str(path.relative_to(GEN)).split("_pb2")[0] not in current:
            path.unlink()


def link() -> None:
    """Put the project on this environment's path and its command into its scripts."""
    (Path(sysconfig.get_path("purelib")) / "pointsman.pth").write_text(f"{ROOT}\n{GEN}\n")
    command = Path(sysconfig.get_path("scripts")) / "pointsman"
    command.write_text(COMMAND)
    command.chmod(0o755)


if __name__ == "__main__":
    generate()
    link()
