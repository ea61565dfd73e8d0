"""Settings that all services read from the environment: one line for each fault, with the variable's name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from libs.settings import SettingsError, load_settings
from services.router.settings import RouterSettings

SUPPORT = Path(__file__).resolve().parents[1] / "support"
CERTIFICATE, KEY = SUPPORT / "localhost_cert.pem", SUPPORT / "localhost_key.pem"


def faults(
    monkeypatch: pytest.MonkeyPatch,
    kind: type[RouterSettings],
    values: Mapping[str, object],
) -> list[str]:
    """Returns the faults of an environment; variables without their POINTSMAN_."""
    for name, value in values.items():
        monkeypatch.setenv(f"POINTSMAN_{name}", str(value))
    with pytest.raises(SettingsError) as refusal:
        load_settings(kind)
    return refusal.value.faults


def test_a_certificate_with_its_key_and_a_ca_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """And empty variables count as unset."""
    for name, value in {"CERTIFICATE": CERTIFICATE, "KEY": KEY, "CA": CERTIFICATE}.items():
        monkeypatch.setenv(f"POINTSMAN_TLS_{name}", str(value))
    assert load_settings(RouterSettings).tls_key == KEY
    for name in ("CERTIFICATE", "KEY", "CA"):
        monkeypatch.setenv(f"POINTSMAN_TLS_{name}", "")
    settings = load_settings(RouterSettings)
    assert (settings.tls_certificate, settings.tls_key, settings.tls_ca) == (None, None, None)


def test_a_file_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each of them: `[Errno 2]` with a path does not say whose it is."""
    missing = tmp_path / "missing.pem"
    values = {"TLS_CERTIFICATE": missing, "TLS_KEY": missing, "TLS_CA": missing}
    sentence = f"{missing} cannot be read: No such file or directory"
    assert faults(monkeypatch, RouterSettings, values) == [f"POINTSMAN_{n}: {sentence}" for n in values]


@pytest.mark.parametrize(
    ("certificate", "key"), [(CERTIFICATE, ""), ("", KEY)], ids=["without key", "without certificate"]
)
def test_one_without_the_other_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, certificate: object, key: object
) -> None:
    """It is a matter of settings, not of the machine."""
    values = {"TLS_CERTIFICATE": certificate, "TLS_KEY": key}
    (fault,) = faults(monkeypatch, RouterSettings, values)
    assert fault == "POINTSMAN_TLS_KEY: a certificate and its key must be set together"


def test_junk_is_no_certificate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It was said to be a port that is taken."""
    (junk := tmp_path / "junk.pem").write_text("junk")
    values = {"TLS_CERTIFICATE": junk, "TLS_KEY": KEY, "TLS_CA": junk}
    assert faults(monkeypatch, RouterSettings, values) == [
        f"POINTSMAN_TLS_CERTIFICATE: {junk} holds no certificate in PEM form",
        f"POINTSMAN_TLS_CA: {junk} holds no certificate in PEM form",
    ]


@pytest.mark.parametrize("content", [b"junk", CERTIFICATE.read_bytes()], ids=["junk", "no key"])
def test_a_key_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes) -> None:
    """For the HTTP door's own certificate too."""
    (key := tmp_path / "key.pem").write_bytes(content)
    values = {"ROUTER_HTTP_CERTIFICATE": CERTIFICATE, "ROUTER_HTTP_KEY": key}
    (fault,) = faults(monkeypatch, RouterSettings, values)
    assert fault.startswith(f"POINTSMAN_ROUTER_HTTP_KEY: {key} does not hold the certificate's key")


def test_a_router_without_a_door_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Either may be shut, not both."""
    values = {"ROUTER_LISTEN": "", "ROUTER_HTTP_LISTEN": ""}
    (fault,) = faults(monkeypatch, RouterSettings, values)
    assert (
        fault == "POINTSMAN_ROUTER_HTTP_LISTEN: POINTSMAN_ROUTER_LISTEN is empty too: nothing could be asked"
    )
    monkeypatch.setenv("POINTSMAN_ROUTER_HTTP_LISTEN", "127.0.0.1:0")
    assert load_settings(RouterSettings).listen == ""


def test_sentences_are_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without words of the library that checks."""
    (fault,) = faults(monkeypatch, RouterSettings, {"ROUTER_LISTEN": "nowhere"})
    assert fault.startswith("POINTSMAN_ROUTER_LISTEN: must be host:port")


@pytest.mark.parametrize(
    ("given", "address"),
    [("7800", "127.0.0.1:7800"), ("0.0.0.0:7800", "0.0.0.0:7800"), ("[::1]:0", "[::1]:0"), ("", "")],
)
def test_metrics_are_shown_to_other_machines_only_where_that_is_said(
    monkeypatch: pytest.MonkeyPatch, given: str, address: str
) -> None:
    """A port alone is one of the loopback address; nothing at all is nowhere."""
    monkeypatch.setenv("POINTSMAN_ROUTER_METRICS_LISTEN", given)
    assert load_settings(RouterSettings).metrics_listen == address


@pytest.mark.parametrize("port", ["²", "٧٨٠٠", "9" * 5000, "65536", "-1", ""])
def test_what_is_no_port_is_one_sentence(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    """Digits of other scripts, and thousands of them, made Python raise a sentence of its own."""
    (fault,) = faults(monkeypatch, RouterSettings, {"ROUTER_LISTEN": f"127.0.0.1:{port}"})
    assert fault.startswith("POINTSMAN_ROUTER_LISTEN: must be host:port")


def test_hosts_to_fetch_from_are_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the internet, as they stand in addresses: no IP address, no pattern, no name of a network's own."""
    for host in (
        "10.0.0.1",
        "localhost",
        "*.example.com",
        "Example.com",
        "https://example.com",
        "a.example:443",
    ):
        (fault,) = faults(monkeypatch, RouterSettings, {"ROUTER_FETCH_HOSTS": f"images.example.com, {host}"})
        assert fault.startswith("POINTSMAN_ROUTER_FETCH_HOSTS")
        assert repr(host) in fault
    monkeypatch.setenv("POINTSMAN_ROUTER_FETCH_HOSTS", "images.example.com, cdn.example.net,")
    hosts = load_settings(RouterSettings).hosts_to_fetch_from
    assert hosts == {"images.example.com", "cdn.example.net"}
