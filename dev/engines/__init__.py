"""A real Valkey and a real PostgreSQL as child processes, for one machine with nothing installed.

async with valkey(directory) as v, postgres(directory) as p:
    v.url, p.dsn             # give these to the same clients as in a cluster
    await v.kill()           # a crash; then v.start(): same port, same data
"""

from dev.engines.child import EngineError
from dev.engines.postgres import Postgres, postgres
from dev.engines.valkey import Valkey, valkey

__all__ = ["EngineError", "Postgres", "Valkey", "postgres", "valkey"]
