"""A wrong environment is refused, naming each fault."""

from __future__ import annotations

import pytest

from libs.settings import SettingsError, load_settings
from services.analytics.settings import AnalyticsSettings

DSN = "POINTSMAN_ANALYTICS_POSTGRES_DSN"


def test_the_dsn_is_all_that_must_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest has defaults; the DSN does not show in the settings' text."""
    monkeypatch.setenv(DSN, "postgresql://user:secret@db:5432/pointsman")
    settings = load_settings(AnalyticsSettings)
    assert settings.listen == "127.0.0.1:7703"
    assert settings.postgres_dsn.get_secret_value().endswith("/pointsman")
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (DSN, None),
        (DSN, "mysql://user:secret@db/x"),
        (DSN, "host=db password=secret"),
        ("POINTSMAN_ANALYTICS_WRITE_TIMEOUT", "0"),
        ("POINTSMAN_ANALYTICS_READ_TIMEOUT", "-1"),
        ("POINTSMAN_ANALYTICS_POSTGRES_READERS", "0"),
    ],
)
def test_a_bad_value_is_one_line_without_the_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str | None
) -> None:
    """The line names the variable and never repeats a secret."""
    monkeypatch.setenv(DSN, "postgresql://user:secret@db:5432/pointsman")
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refusal:
        load_settings(AnalyticsSettings)
    (fault,) = refusal.value.faults
    assert fault.startswith(f"{name}: ")
    assert "secret" not in fault
