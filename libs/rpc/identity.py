"""Turns `authorization: Bearer <key>` metadata into the caller's name, once, before the servicer runs."""

from __future__ import annotations

import hmac
from contextvars import ContextVar
from typing import Protocol

from libs.errors import FieldViolation, InvalidArgument, PermissionDenied, Unauthenticated

_caller: ContextVar[str] = ContextVar("pointsman_caller")
#: The longest key, in characters; longer metadata is not worth hashing.
MAX_KEY = 512
#: Name of the caller that sends the service token. No tenant's name begins with a colon.
OPERATOR = ":operator"


class Authenticator(Protocol):
    """Turns a key into a caller's name."""

    def authenticate(self, key: str | None) -> str:
        """Returns the caller's name. Raises Unauthenticated. `key` None: no key was sent."""
        ...


class ServiceToken:
    """Authenticates internal services: by one shared token, or not at all where the network is the fence."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def authenticate(self, key: str | None) -> str:
        """Returns OPERATOR. Raises Unauthenticated for another token."""
        if self._token and not hmac.compare_digest((key or "").encode(), self._token):
            raise Unauthenticated(
                "This service needs the service token as `authorization: Bearer <token>` metadata",
                reason="SERVICE_TOKEN_REQUIRED",
            )
        return OPERATOR


def bearer_key(authorization: str | bytes | None) -> str | None:
    """Returns the key of an authorization header; None where there is no header. Raises InvalidArgument where it is
    not a Bearer header or holds anything but printable ASCII."""
    if authorization is None:
        return None
    text = authorization.decode("latin-1") if isinstance(authorization, bytes) else authorization
    scheme, _, key = text.partition(" ")
    key = key.strip()
    if (
        scheme.lower() != "bearer"
        or not key
        or len(key) > MAX_KEY
        or not key.isascii()
        or not key.isprintable()
    ):
        raise InvalidArgument(
            [FieldViolation("metadata.authorization", "must be `Bearer <key>` in printable ASCII")],
            reason="BAD_AUTHORIZATION",
        )
    return key


def set_caller(name: str) -> None:
    """Remembers the caller for the rest of this call's task."""
    _caller.set(name)


def current_caller() -> str:
    """Returns the caller's name: the tenant's, or OPERATOR. Raises LookupError outside of a
    call."""
    return _caller.get()


def require_operator() -> None:
    """Raises PermissionDenied for tenants."""
    if current_caller() != OPERATOR:
        raise PermissionDenied("This call is for operators: send the service token", reason="OPERATORS_ONLY")
