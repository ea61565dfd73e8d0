"""The stack on paper: ports, environments and the choice of catalog."""

from __future__ import annotations

from pathlib import Path

import pytest

from dev.__main__ import parse
from dev.stack import OFFSETS, Plan, assign_ports


def plan(**changes: object) -> Plan:
    """A plan with made-up values."""
    values: dict[str, object] = {
        "root": Path("/p"),
        "data": Path("/p/.data"),
        "ports": assign_ports(7700, int),
        "catalog": Path("/p/c.yaml"),
        "redis_url": "redis://:pw@127.0.0.1:1/0",
        "postgres_dsn": "postgresql://u:pw@127.0.0.1:2/postgres",
        "service_token": "token",
        "provider_keys": frozenset({"OPENAI_API_KEY"}),
    }
    return Plan(**(values | changes))  # type: ignore[arg-type]


def test_ports_follow_the_base_and_are_distinct() -> None:
    """The defaults are those of the documentation, and no two members meet."""
    ports = assign_ports(7700, int)
    assert (ports["router"], ports["router http"], ports["simulator"], ports["router metrics"]) == (
        7700,
        7780,
        7790,
        7800,
    )
    assert len(set(ports.values())) == len(OFFSETS)


def test_port_base_zero_takes_free_ports() -> None:
    """Tests run beside a stack."""
    numbers = iter(range(100, 200))
    assert set(assign_ports(0, lambda: next(numbers)).values()) == set(range(100, 100 + len(OFFSETS)))


@pytest.mark.parametrize("base", [-1, 80, 65_500])
def test_a_port_base_without_room_is_refused(base: int) -> None:
    """Privileged and impossible ports are told before anything starts."""
    with pytest.raises(ValueError, match="port base"):
        assign_ports(base, int)


@pytest.mark.parametrize(
    ("name", "sees"),
    [("router", True), ("health", True), ("ratelimit", False), ("analytics", False)],
)
def test_only_services_that_call_providers_see_their_keys(name: str, sees: bool) -> None:
    """A key goes no further than it must."""
    env = plan().environment(name, {"OPENAI_API_KEY": "sk-x", "HOME": "/h"})
    assert ("OPENAI_API_KEY" in env) is sees
    assert env["HOME"] == "/h"


def test_addresses_of_the_stack_win_over_the_callers_environment() -> None:
    """A stray variable does not connect the stack to another one; tuning from outside is kept."""
    env = plan().environment(
        "router",
        {
            "POINTSMAN_ROUTER_LISTEN": "0.0.0.0:1",
            "POINTSMAN_ROUTER_DRAIN_SECONDS": "9",
            "POINTSMAN_CONFIG": "x",
        },
    )
    assert env["POINTSMAN_ROUTER_LISTEN"] == "127.0.0.1:7700"
    assert env["POINTSMAN_ROUTER_HTTP_LISTEN"] == "127.0.0.1:7780"
    assert env["POINTSMAN_ROUTER_HEALTH_TARGET"] == "127.0.0.1:7701"
    assert env["POINTSMAN_CONFIG"] == "/p/c.yaml"
    assert env["POINTSMAN_ROUTER_DRAIN_SECONDS"] == "9"


def test_options_come_from_the_environment_and_the_command_line_wins() -> None:
    """POINTSMAN_CONFIG, POINTSMAN_DATA and POINTSMAN_PORT_BASE name the same things as the options."""
    environ = {"POINTSMAN_CONFIG": "a.yaml", "POINTSMAN_DATA": "/d", "POINTSMAN_PORT_BASE": "8800"}
    command, options = parse(["up"], environ)
    assert (command, options.catalog, options.data, options.port_base) == ("up", "a.yaml", Path("/d"), 8800)
    _, options = parse(["demo", "--catalog", "b.yaml", "--port-base", "0", "--once"], environ)
    assert (options.catalog, options.port_base, options.once) == ("b.yaml", 0, True)


@pytest.mark.parametrize(
    ("environ", "base"), [({}, 7700), ({"POINTSMAN_PORT_BASE": ""}, 7700), ({"POINTSMAN_PORT_BASE": "0"}, 0)]
)
def test_the_port_base_comes_from_the_environment(environ: dict[str, str], base: int) -> None:
    """A variable that is empty counts as unset."""
    assert parse(["up"], environ)[1].port_base == base


def test_an_empty_data_directory_counts_as_unset() -> None:
    """It meant the directory one happened to be in."""
    assert parse(["up"], {"POINTSMAN_DATA": ""})[1].data.name == ".data"


def test_a_port_base_that_is_no_number_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """With the variable's name, and a status other than 0."""
    with pytest.raises(SystemExit) as ended:
        parse(["up"], {"POINTSMAN_PORT_BASE": "abc"})
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "POINTSMAN_PORT_BASE" in line
    assert "'abc'" in line
