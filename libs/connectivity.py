"""The values of a test of a provider's endpoint, which health and its callers share: named, timed steps, each with a
verdict, its cause and what was found. Durations in seconds, instants in epoch seconds. Text for people is made from
these where it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class StepName(Enum):
    """The steps, in the order in which they run."""

    NAME_RESOLUTION = "name_resolution"
    CONNECTION = "connection"
    TLS = "tls"
    AUTHENTICATION = "authentication"
    MODELS = "models"


class StepVerdict(Enum):
    """The end of a step. WARNING: it works, but somebody should look at it, or it could not be proven. SKIPPED: it
    did not run."""

    PASSED = "passed"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


class Cause(Enum):
    """The cause of a verdict other than PASSED; `health.proto` says when each is given."""

    EARLIER_STEP_FAILED = "earlier_step_failed"
    NOT_OFFERED = "not_offered"
    NO_KEY_NEEDED = "no_key_needed"
    NOT_COMPARABLE = "not_comparable"
    TIMED_OUT = "timed_out"
    NAME_UNKNOWN = "name_unknown"
    CONNECTION_REFUSED = "connection_refused"
    UNREACHABLE = "unreachable"
    CERTIFICATE_EXPIRED = "certificate_expired"
    CERTIFICATE_UNTRUSTED = "certificate_untrusted"
    CERTIFICATE_FOR_ANOTHER_HOST = "certificate_for_another_host"
    CERTIFICATE_ENDS_SOON = "certificate_ends_soon"
    TLS_FAILED = "tls_failed"
    CONNECTION_LOST = "connection_lost"
    KEY_REFUSED = "key_refused"
    KEY_NOT_SET = "key_not_set"
    KEY_NOT_PROVEN = "key_not_proven"
    LIST_FORBIDDEN = "list_forbidden"
    RATE_LIMITED = "rate_limited"
    SERVER_FAULT = "server_fault"
    UNEXPECTED_ANSWER = "unexpected_answer"
    MODELS_MISSING = "models_missing"
    MODELS_RETIRING = "models_retiring"


class ModelState(Enum):
    """The state of a model of the catalog at its vendor: MISSING is neither listed nor found by its name, RETIRING is
    called deprecated or not active."""

    MISSING = "missing"
    RETIRING = "retiring"


@dataclass(frozen=True, slots=True)
class ModelFinding:
    """A model of the catalog that its vendor does not have, or not for long. `ends` None: the vendor names no end."""

    model: str
    wire_name: str
    state: ModelState
    ends: float | None = None


@dataclass(frozen=True, slots=True)
class AddressesDetail:
    """The IP addresses of a name."""

    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConnectionDetail:
    """The IP address that took the connection."""

    address: str


@dataclass(frozen=True, slots=True)
class CertificateDetail:
    """The server's certificate. `ends` None: it could not be read. `protocol` empty: it was not trusted."""

    ends: float | None
    issuer: str = ""
    protocol: str = ""


@dataclass(frozen=True, slots=True)
class HttpDetail:
    """The status of an answer."""

    status: int


@dataclass(frozen=True, slots=True)
class ModelsDetail:
    """The vendor's list against the catalog: its length, the number of the catalog's models, and those of them that
    the vendor does not have, or not for long."""

    listed: int
    looked_for: int
    findings: tuple[ModelFinding, ...] = ()


Detail = AddressesDetail | ConnectionDetail | CertificateDetail | HttpDetail | ModelsDetail


@dataclass(frozen=True, slots=True)
class Finding:
    """The end of a step, without its name and duration."""

    verdict: StepVerdict
    cause: Cause | None = None
    detail: Detail | None = None

    def __post_init__(self) -> None:
        if (self.verdict is StepVerdict.PASSED) != (self.cause is None):
            raise ValueError("a step has a cause exactly if it did not pass")


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `name` None, like a verdict or cause of None: of a later version's server."""

    name: StepName | None
    verdict: StepVerdict | None
    duration: float
    cause: Cause | None = None
    detail: Detail | None = None


@dataclass(frozen=True, slots=True)
class EndpointTest:
    """The test of one endpoint of a provider. `key_name`: the variable or file of its key, never the key; empty: none
    is sent."""

    base_url: str
    key_name: str
    steps: tuple[Step, ...]

    @property
    def failed(self) -> bool:
        """Returns True if a step failed."""
        return any(step.verdict is StepVerdict.FAILED for step in self.steps)
