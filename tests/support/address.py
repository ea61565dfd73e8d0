"""The address of a test's gRPC server."""

from __future__ import annotations

from dev.engines.child import free_port


def fresh_address() -> str:
    """host:port that no server had before. All gRPC channels of a process share what they know of an address: while
    one of an earlier test knows that its server is gone, the first call to a new server at that port fails."""
    return f"127.0.0.1:{free_port()}"
