"""The settings that every service reads from its environment. One class per service extends `ServiceSettings`."""

from __future__ import annotations

import os
import secrets
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar, cast

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

#: sysexits.h EX_USAGE: the command line or environment is wrong.
EX_USAGE = 64


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def parse_address(value: str) -> tuple[str, int]:
    """Splits `host:port` (IPv6 hosts in brackets). Raises ValueError with a sentence for people."""
    host, separator, port = value.rpartition(":")
    if not separator or not host or not _is_number(port) or int(port) > 65535:
        raise ValueError(f"must be host:port with a port from 0 to 65535, not {value!r}")
    return host.strip("[]"), int(port)


def why_unbound(listen: str) -> str:
    """Returns a sentence on why nothing can listen on `host:port`, as far as can be found out. Looks the host up."""
    host, _ = parse_address(listen)
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return f"cannot listen on {listen}: there is no host called {host}"
    return f"cannot listen on {listen}: is the port taken?"


def _address(value: str) -> str:
    parse_address(value)
    return value


def _optional_address(value: str) -> str:
    if _is_number(value):
        value = f"127.0.0.1:{value}"
    return _address(value) if value else value


#: `host:port`; port 0 takes any free one.
Address = Annotated[str, AfterValidator(_address)]
#: `host:port`; a port alone is one of this machine's loopback; empty for off.
OptionalAddress = Annotated[str, AfterValidator(_optional_address)]


def _readable(path: Path) -> Path:
    try:
        path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    return path


def _certificates(path: Path | None) -> Path | None:
    if path is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(_readable(path))
        except ssl.SSLError as error:
            raise ValueError(f"{path} holds no certificate in PEM form") from error
    return path


#: A PEM file with one certificate or more; empty: none.
Certificates = Annotated[
    Path | None, BeforeValidator(lambda value: value or None), AfterValidator(_certificates)
]


def key_of(certificate: str) -> tuple[BeforeValidator, AfterValidator]:
    """Returns the validators of a PEM file with the private key of the setting `certificate`, which stands before it:
    both are set or neither, and they belong together."""

    def check(path: Path | None, info: ValidationInfo) -> Path | None:
        if path is not None:
            _readable(path)
        if certificate not in info.data:
            return path  # it has a fault of its own
        other: Path | None = info.data[certificate]
        if (path is None) != (other is None):
            raise ValueError("a certificate and its key must be set together")
        if path is not None and other is not None:
            try:
                # With a password at hand nobody at a terminal is asked for the one of an encrypted key.
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(other, path, password="")
            except ssl.SSLError as error:
                raise ValueError(
                    f"{path} does not hold the certificate's key, not encrypted, in PEM form"
                ) from error
        return path

    return BeforeValidator(lambda value: value or None), AfterValidator(check)


def names_of(text: str) -> frozenset[str]:
    """Returns the names of a setting that holds several, with commas between."""
    return frozenset(filter(None, map(str.strip, text.split(","))))


def shared(name: str) -> AliasChoices:
    """Returns the environment variable of a setting that all services share, without a service prefix."""
    return AliasChoices(f"POINTSMAN_{name}")


class ServiceSettings(BaseSettings):
    """Common to all services. A subclass sets `env_prefix="POINTSMAN_<SERVICE>_"`; variables named by `shared` have
    no service in their name."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    listen: Address
    #: The address of /metrics and /livez, for Prometheus and the orchestrator; empty: none.
    metrics_listen: OptionalAddress = ""
    config: Path = Field(Path("config/pointsman.yaml"), validation_alias=shared("CONFIG"))
    #: Unique per process life; empty: made from host, pid and chance.
    instance_id: str = ""
    #: Seconds that running calls may go on after SIGTERM.
    drain_seconds: float = Field(5.0, ge=0, le=3600)
    #: The Bearer token that callers of internal services must send; empty: none.
    service_token: SecretStr = Field(SecretStr(""), validation_alias=shared("SERVICE_TOKEN"))
    log_level: str = Field(
        "info", validation_alias=shared("LOG_LEVEL"), pattern="^(debug|info|warning|error|critical)$"
    )
    #: OTLP/gRPC collector, e.g. http://collector:4317; empty: traces are not exported.
    otlp_endpoint: str = Field("", validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_ENDPOINT"))
    #: Share of traces without a sampled parent that are recorded, 0 to 1.
    trace_sample_ratio: float = Field(0.1, ge=0, le=1, validation_alias=shared("TRACE_SAMPLE_RATIO"))
    #: PEM files; all or none of certificate and key. With a CA, clients must present a certificate it signed.
    tls_certificate: Certificates = Field(None, validation_alias=shared("TLS_CERTIFICATE"))
    tls_key: Annotated[Path | None, *key_of("tls_certificate")] = Field(
        None, validate_default=True, validation_alias=shared("TLS_KEY")
    )
    tls_ca: Certificates = Field(None, validation_alias=shared("TLS_CA"))

    def instance(self, service: str) -> str:
        """Returns the instance id, made up where none was given."""
        return self.instance_id or f"{service}-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


SettingsT = TypeVar("SettingsT", bound=ServiceSettings)


class SettingsError(Exception):
    """The environment is wrong; `faults` holds one clear line per fault."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def load_settings(settings_type: type[SettingsT]) -> SettingsT:
    """Reads the environment. Raises SettingsError. Values are not repeated: one of them may be a secret."""
    try:
        # From the environment alone; the type checker cannot know that.
        return cast(Callable[[], SettingsT], settings_type)()
    except ValidationError as error:
        # pydantic begins the sentences of our own validators with "Value error, ".
        raise SettingsError(
            [
                f"{_variable(settings_type, fault['loc'])}: {fault['msg'].removeprefix('Value error, ')}"
                for fault in error.errors()
            ]
        ) from None


def _variable(settings_type: type[ServiceSettings], location: tuple[int | str, ...]) -> str:
    name = str(location[0]) if location else ""
    field = settings_type.model_fields.get(name)
    if field is not None and not isinstance(field.validation_alias, AliasChoices):
        return f"{settings_type.model_config.get('env_prefix', '')}{name}".upper()
    return name
