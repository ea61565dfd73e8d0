"""`pointsman generate`: one prompt, or a JSONL file of products."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec import to_builtins

from cli import options as opt
from cli.addresses import Endpoint, client, find
from cli.attachments import read_files, read_images, with_parts
from cli.failure import CliError, reporting
from cli.generate_many import generate_many
from cli.loop import run
from cli.render import printable, render_result
from cli.terminal import Flow, console, write_json
from libs.client import (
    Client,
    Completed,
    Delta,
    Event,
    Options,
    Restarted,
    Result,
    SwitchedProvider,
    TextAssembler,
)
from libs.client import Prompt as Asked
from libs.errors import FieldViolation, InvalidArgument
from libs.types import Priority

Prompt = Annotated[
    str, typer.Argument(help="The prompt; left out or -, it is read from standard input.", show_default=False)
]
Input = Annotated[
    Path | None,
    typer.Option(
        "--input",
        "-i",
        help='Generate every row of this JSONL file: {"prompt": …} or a product.',
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Where the answers go, one line per row; running the same command again goes on where it ended.",
        show_default=False,
    ),
]
TemplateOption = Annotated[
    str,
    typer.Option(
        "--template",
        help="Prompt for product rows, with {fields}; or a file that holds one.",
        show_default=False,
    ),
]
ImageField = Annotated[
    str,
    typer.Option(
        help="The field of a row that holds its image: a path from the file's folder, or an address.",
        show_default=False,
    ),
]
Concurrency = Annotated[int, typer.Option(min=1, max=1000, help="Rows under way at once.")]
MaxWait = Annotated[
    float, typer.Option(min=0, help="The most seconds a row waits for limits and outages before it fails.")
]
RetryFailed = Annotated[
    bool, typer.Option(help="Whether rows that failed in an earlier run are tried again.")
]
StreamOption = Annotated[bool, typer.Option("--stream", help="Show the answer while it is written.")]
ShowReasoning = Annotated[
    bool,
    typer.Option("--show-reasoning", help="Show the model's thoughts too, with --stream on standard error."),
]


def generate(
    prompt: Prompt = "",
    input_file: Input = None,
    output: Output = None,
    template: TemplateOption = "",
    image_field: ImageField = "",
    concurrency: Concurrency = 8,
    max_wait: MaxWait = 60.0,
    retry_failed: RetryFailed = True,
    stream: StreamOption = False,
    show_reasoning: ShowReasoning = False,
    image: opt.Images = None,
    file: opt.Files = None,
    content_type: opt.ContentType = "",
    system: opt.System = "",
    model: opt.Models = None,
    strategy: opt.StrategyOption = None,
    max_output_tokens: opt.MaxOutputTokens = None,
    temperature: opt.Temperature = None,
    campaign: opt.Campaign = "",
    max_cost: opt.MaxCost = "",
    priority: opt.PriorityOption = None,
    timeout: opt.Timeout = opt.TIMEOUT,
    router: opt.Router = "",
    key: opt.Key = "",
    as_json: opt.Json = False,
) -> None:
    """Generate one answer, or one for each product of a file.

    Exit status: 0 all answered, 1 something failed, 2 the command or its input is wrong, 130 interrupted.
    """
    with reporting(as_json):
        endpoint = find("router", router, key)
        chosen = opt.gather(
            content_type=content_type,
            system=system,
            models=model,
            strategy=strategy,
            max_output_tokens=max_output_tokens,
            temperature=temperature,
            campaign=campaign,
            max_cost=max_cost,
            priority=priority,
        )
    with reporting(as_json, str(endpoint)):
        if input_file is None:
            if output is not None or template or image_field:
                raise CliError("--output, --template and --image-field go with --input")
            asked = with_parts(read_prompt(prompt), [*read_images(image or ()), *read_files(file or ())])
            run(_generate_one(endpoint, asked, chosen, timeout, stream, show_reasoning, as_json))
            return
        if prompt or stream or show_reasoning or image or file:
            raise CliError(
                "--input takes no prompt, --stream, --show-reasoning, --image or --file; rows have an --image-field"
            )
        if output is None:
            raise CliError("--input needs --output, where the answers go")
        chosen.setdefault("priority", Priority.BULK)
        code = generate_many(
            endpoint=endpoint,
            input_file=input_file,
            output=output,
            template=template,
            image_field=image_field,
            options=chosen,
            concurrency=concurrency,
            timeout=timeout,
            max_wait=max_wait,
            retry_failed=retry_failed,
            as_json=as_json,
            rng=random.Random(),
        )
        if code:
            raise typer.Exit(code)


def read_prompt(argument: str) -> str:
    """Returns the prompt given, or standard input's. Raises CliError where it is empty or not UTF-8."""
    text = argument
    if argument in {"", "-"}:
        if sys.stdin is None or sys.stdin.isatty():
            raise CliError("give a prompt, or --input with a file of products")
        try:
            text = sys.stdin.buffer.read().decode()
        except UnicodeDecodeError:
            raise CliError("standard input is not UTF-8") from None
    if not text.strip():
        raise CliError("the prompt is empty")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidArgument([FieldViolation("prompt", "is not valid UTF-8")]) from None
    return text


async def _generate_one(
    endpoint: Endpoint,
    prompt: Asked,
    options: Options,
    timeout: float,
    stream: bool,
    show_reasoning: bool,
    as_json: bool,
) -> None:
    out = console()
    async with client(Client, endpoint, timeout) as connected:
        if stream:
            result = await _stream(connected, prompt, options, show_reasoning, as_json)
        else:
            result = await connected.generate(prompt, **options)
    if not as_json:
        out.print(render_result(result, show_text=not stream, show_reasoning=show_reasoning and not stream))
    elif not stream:
        write_json(to_builtins(result))


async def _stream(
    connected: Client, prompt: Asked, options: Options, show_reasoning: bool, as_json: bool
) -> Result:
    assembler, view = TextAssembler(), StreamView(Flow(console()), show_reasoning=show_reasoning)
    async for event in connected.stream(prompt, **options):
        assembler.feed(event)
        if as_json:
            write_json(event_fields(event, assembler))
        else:
            view.show(event)
    result = assembler.result
    assert result is not None  # the client raises where a stream ends without Completed
    return result


def event_fields(event: Event, assembler: TextAssembler) -> dict[str, Any]:
    """Returns the JSON shape of a stream's event: its fields and its kind in `event`. The last one, "completed",
    holds the whole result, text included."""
    kind = {"SwitchedProvider": "switched_provider"}.get(type(event).__name__, type(event).__name__.lower())
    fields = to_builtins(event)
    if isinstance(event, Completed) and assembler.result is not None:
        fields["result"] = to_builtins(assembler.result)
    return {"event": kind, **fields}


class StreamView:
    """Shows a stream's events to a person: the answer on standard output, all else on standard error."""

    def __init__(self, flow: Flow, *, show_reasoning: bool) -> None:
        self._flow = flow
        self._show_reasoning = show_reasoning
        self._thinking = False
        #: Anything was shown that a new beginning makes void.
        self._shown = False

    def show(self, event: Event) -> None:
        """Shows one event."""
        if isinstance(event, Delta):
            self._think("".join([piece.piece.text for piece in event.reasoning]))
            self._say(event.text + event.refusal)
        elif isinstance(event, Restarted):
            if self._shown:
                self._flow.end()
                provider = event.selection.provider
                self._flow.write(
                    f"\n\n[{event.from_provider} failed; {provider} begins anew, disregard the above]\n\n"
                )
            self._shown = self._thinking = False
        elif isinstance(event, SwitchedProvider):
            sys.stderr.write(f"[{event.from_provider} failed; {event.selection.provider} goes on]")
        elif isinstance(event, Completed):
            self._flow.end()
            self._flow.write("\n\n")

    def _think(self, text: str) -> None:
        if text and self._show_reasoning:
            self._shown = self._thinking = True
            sys.stderr.write(printable(text))
            sys.stderr.flush()

    def _say(self, text: str) -> None:
        if not text:
            return
        if self._thinking:
            self._thinking = False
            sys.stderr.write("\n\n")
            sys.stderr.flush()
        self._shown = True
        self._flow.write(printable(text))
