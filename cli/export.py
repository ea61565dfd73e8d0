"""`pointsman export`: the ledger as Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import options as opt
from cli.failure import CliError, reporting
from cli.loop import run
from cli.terminal import console, write_json, write_sentence

TABLES = ("attempts", "requests")

Folder = Annotated[
    Path, typer.Argument(help="The folder of the files; what is there already is not written again.")
]
TableName = Annotated[
    list[str] | None,
    typer.Option("--table", help=f"{' or '.join(TABLES)}; repeat for both.", show_default="both"),
]
Dsn = Annotated[
    str,
    typer.Option(
        envvar=["POINTSMAN_ANALYTICS_POSTGRES_READER_DSN", "POINTSMAN_ANALYTICS_POSTGRES_DSN"],
        help="The ledger's database; better in the environment, where other users cannot see the password.",
        show_default=False,
    ),
]


def export_ledger(
    folder: Folder, table: TableName = None, postgres_dsn: Dsn = "", as_json: opt.Json = False
) -> None:
    """Write the ledger as Parquet files, one a partition; go on where an earlier export ended."""
    written: dict[str, int] = {}

    def told(name: str, rows: int) -> None:
        written[name] = rows
        if not as_json:
            write_sentence(console(), f"{name}: {rows:,} rows")

    with reporting(as_json):
        tables = tuple(table or TABLES)
        if unknown := [name for name in tables if name not in TABLES]:
            raise CliError(f"--table: {unknown[0]!r} is none of {', '.join(TABLES)}")
        if not postgres_dsn:
            raise CliError("set POINTSMAN_ANALYTICS_POSTGRES_DSN or give --postgres-dsn")
        # The driver takes longer to import than most commands run.
        from cli.parquet import export

        found = run(export(postgres_dsn, folder, tables, told))
        if as_json:
            write_json({"written": written, "files": {name: item.rows for name, item in found.items()}})
        else:
            rows = sum(item.rows for item in found.values())
            write_sentence(
                console(), f"{len(found)} files, {rows:,} rows; {len(written)} of them written now"
            )
