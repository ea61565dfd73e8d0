"""The ledger as Parquet files, one a partition, for any engine that reads them.

PostgreSQL writes a partition as CSV, in one transaction with the count that goes into the manifest, and DuckDB turns
that into Parquet; neither makes an object of a row. A file is named only when it is whole, and the manifest is
written after it, so an export that is killed goes on with the partition that it was at. A partition is exported again
when its rows have changed since. `labels`, `candidates` and `capabilities` are JSON; instants are UTC.
"""

# ruff: noqa: S608 -- names of tables and columns are the schema's own.

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from cli.failure import FAILED, CliError

MANIFEST = "manifest.json"
#: Seconds for one statement: the largest partition takes minutes.
TIMEOUT = 86_400.0
#: Stands for NULL in the CSV; texts are quoted, so none is taken for it.
_NULL = "\\N"
#: PostgreSQL's type → how it is selected, and DuckDB's type.
_TYPES = {
    "text": ("{}", "VARCHAR"),
    "jsonb": ("{}::text", "VARCHAR"),
    "text[]": ("to_jsonb({})::text", "VARCHAR"),
    "timestamp with time zone": ("({} AT TIME ZONE 'UTC')", "TIMESTAMP"),
    "bigint": ("{}", "BIGINT"),
    "integer": ("{}", "INTEGER"),
    "smallint": ("{}", "SMALLINT"),
    "boolean": ("{}", "BOOLEAN"),
    "real": ("{}", "FLOAT"),
    "double precision": ("{}", "DOUBLE"),
}


class Exported(msgspec.Struct, frozen=True):
    """A partition in the manifest. `rows` and `changed` (the latest instant at which a row was written) tell whether
    the partition has changed since."""

    rows: int
    changed: str


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A column, as it is selected and as DuckDB reads it."""

    name: str
    selected: str
    kind: str


def load_duckdb() -> Any:
    """Returns the module. Raises CliError where it is not installed."""
    try:
        return import_module("duckdb")
    except ImportError:
        raise CliError("`pointsman export` needs DuckDB: pip install 'pointsman[export]'") from None


async def export(
    dsn: str, folder: Path, tables: Sequence[str], told: Callable[[str, int], None]
) -> dict[str, Exported]:
    """Writes what has changed since the last export into the folder; `told` is called with each file written and its
    rows. Returns the manifest: all files by name. Raises CliError."""
    duckdb = load_duckdb()
    try:
        return await _export(duckdb, dsn, folder, tables, told)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError, duckdb.Error) as error:
        # The text of a connection's error may hold the DSN, and that of a file's error a row.
        name = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise CliError(f"the export has ended: {name}; run it again to go on", code=FAILED) from None


async def _export(
    duckdb: Any, dsn: str, folder: Path, tables: Sequence[str], told: Callable[[str, int], None]
) -> dict[str, Exported]:
    folder.mkdir(parents=True, exist_ok=True)
    manifest = _read_manifest(folder)
    connection = await asyncpg.connect(
        dsn, timeout=10.0, server_settings={"default_transaction_read_only": "on", "statement_timeout": "0"}
    )
    try:
        for table in tables:
            columns = await _columns(connection, table)
            for partition in await _partitions(connection, table):
                name, path = f"{partition}.parquet", folder / f"{partition}.parquet"
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    now = await _state(connection, partition, columns)
                    if now == manifest.get(name) and (path.exists() or not now.rows):
                        continue
                    if now.rows:
                        await _write(duckdb, connection, partition, columns, path)
                        told(name, now.rows)
                    else:
                        path.unlink(missing_ok=True)
                manifest[name] = now
                _replace(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
    finally:
        await connection.close()
    return {name: exported for name, exported in manifest.items() if exported.rows}


def _read_manifest(folder: Path) -> dict[str, Exported]:
    try:
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=dict[str, Exported])
    except FileNotFoundError:
        return {}
    except msgspec.MsgspecError:
        raise CliError(f"{folder / MANIFEST} is not an export's manifest: move it away") from None


async def _partitions(connection: asyncpg.Connection[asyncpg.Record], table: str) -> list[str]:
    rows = await connection.fetch(
        "SELECT name FROM analytics.partitions WHERE parent = $1 ORDER BY until", table
    )
    return [*(row["name"] for row in rows), f"{table}_default"]


async def _columns(connection: asyncpg.Connection[asyncpg.Record], table: str) -> list[ColumnType]:
    rows = await connection.fetch(
        "SELECT attname, format_type(atttypid, atttypmod) AS kind FROM pg_attribute "
        "WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        f"analytics.{table}",
    )
    if not rows:
        raise CliError(f"the database has no table analytics.{table}: start analytics of this version once")
    found = []
    for row in rows:
        selected, kind = _TYPES[row["kind"]]
        quoted = '"' + row["attname"].replace('"', '""') + '"'
        found.append(ColumnType(row["attname"], selected.format(quoted), kind))
    return found


async def _state(
    connection: asyncpg.Connection[asyncpg.Record], partition: str, columns: Sequence[ColumnType]
) -> Exported:
    replaced = "replaced_at" in {column.name for column in columns}
    changed = "greatest(max(recorded_at), max(replaced_at))" if replaced else "max(recorded_at)"
    row = await connection.fetchrow(
        f"SELECT count(*) AS rows, {changed}::text AS changed FROM analytics.{partition}",
        timeout=TIMEOUT,
    )
    assert row is not None, "an aggregate without GROUP BY gives one row"
    return Exported(row["rows"], row["changed"] or "")


async def _write(
    duckdb: Any,
    connection: asyncpg.Connection[asyncpg.Record],
    partition: str,
    columns: Sequence[ColumnType],
    path: Path,
) -> None:
    text, fresh = path.with_suffix(".csv.new"), path.with_suffix(".parquet.new")
    selected = ", ".join(f"{column.selected} AS {column.name}" for column in columns)
    try:
        await connection.copy_from_query(
            f"SELECT {selected} FROM analytics.{partition} ORDER BY 1",
            output=text,
            format="csv",
            null=_NULL,
            force_quote=True,
            timeout=TIMEOUT,
        )
        kinds = ", ".join(f"'{column.name}': '{column.kind}'" for column in columns)
        with duckdb.connect() as engine:
            engine.execute("SET preserve_insertion_order = true")
            engine.execute(
                f"COPY (SELECT * FROM read_csv($source, auto_detect = false, header = false, delim = ',', "
                f"quote = '\"', escape = '\"', nullstr = '{_NULL}', allow_quoted_nulls = false, "
                f"parallel = false, columns = {{{kinds}}})) TO '{_quoted(fresh)}' "
                "(FORMAT parquet, COMPRESSION zstd)",
                {"source": str(text)},
            )
        fresh.replace(path)
    finally:
        text.unlink(missing_ok=True)
        fresh.unlink(missing_ok=True)


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_name(f"{path.name}.new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
