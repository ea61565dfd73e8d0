"""Identifies the router's callers: tenants by their keys, operators by the service token."""

from __future__ import annotations

import hmac
from collections.abc import Callable

from libs.catalog.catalog import Catalog
from libs.errors import Unauthenticated
from libs.rpc.identity import OPERATOR


class TenantKeys:
    """Satisfies `libs.rpc.identity.Authenticator`: a caller is the tenant whose key it sends, or an operator by the
    service token. Without a service token nobody is an operator."""

    def __init__(self, catalog: Callable[[], Catalog], service_token: str) -> None:
        self._catalog = catalog
        self._service_token = service_token.encode()

    def authenticate(self, key: str | None) -> str:
        """Returns the tenant's name, or OPERATOR. Raises Unauthenticated."""
        if key is None:
            raise Unauthenticated(
                "Send the tenant's key as `authorization: Bearer <key>` metadata", reason="KEY_REQUIRED"
            )
        tenant = self._catalog().tenant_by_key(key)
        if tenant is not None:
            return tenant.name
        if self._service_token and hmac.compare_digest(key.encode(), self._service_token):
            return OPERATOR
        raise Unauthenticated("No tenant has this key", reason="KEY_UNKNOWN")
