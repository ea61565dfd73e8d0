"""The command line `pointsman`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from cli.failure import INTERRUPTED, show_error, show_json_error
from cli.terminal import configure_output


def build() -> typer.Typer:
    """Returns the command line with all commands."""
    from cli import alerts, windows
    from cli.connectivity import connectivity
    from cli.control import block, drain, failover, restore
    from cli.costs import costs
    from cli.doctor import doctor
    from cli.export import export_ledger
    from cli.failovers import failovers
    from cli.forecast import forecast
    from cli.generate import generate
    from cli.history import history, undo
    from cli.performance import performance
    from cli.providers import providers
    from cli.quotas import quotas
    from cli.recommendations import recommendations
    from cli.reconcile import reconcile
    from cli.reliability import reliability
    from cli.request import request
    from cli.select import select

    app = typer.Typer(
        name="pointsman",
        help="Generate text through Pointsman, and see what it costs and whom it trusts.",
        epilog="Addresses and keys come from options, the environment (POINTSMAN_ROUTER, POINTSMAN_HEALTH, "
        "POINTSMAN_RATELIMIT, POINTSMAN_ANALYTICS, POINTSMAN_KEY, POINTSMAN_SERVICE_TOKEN), or the local stack that "
        "`make run` starts.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for command in (generate, select, providers, quotas, costs):
        app.command()(command)
    reports = {"performance": performance, "reliability": reliability, "failovers": failovers}
    for name, report in reports.items():
        app.command(name)(report)
    for question in (forecast, recommendations, request, reconcile):
        app.command()(question)
    for control in (drain, block, restore, failover, history, undo):
        app.command()(control)
    app.add_typer(alerts.build(), name="alerts")
    app.add_typer(windows.build(), name="windows")
    app.command("export")(export_ledger)
    app.command("test")(connectivity)
    app.command()(doctor)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status. Wrong use is reported like every other failure: a sentence, or JSON
    where --json was among the arguments."""
    # gRPC reads this when it is first imported, so before the commands are; its notes about connections would come
    # between our lines on stderr.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    configure_output(os.environ)
    app = build()
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = app(args=given, prog_name="pointsman", standalone_mode=False)
    except typer.TyperException as error:
        message = error.format_message()
        if "--json" in given:
            show_json_error({"type": "UsageError", "reason": "BAD_USE", "message": message}, error.exit_code)
        elif message.strip():  # without a command the help was shown, and there is no more to say
            show_error(message, ("see `pointsman --help`",))
        return error.exit_code
    except typer.Abort:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); a second failure at interpreter exit would only add noise.
        sys.stderr.close()
        return 1
    return code if isinstance(code, int) else 0
