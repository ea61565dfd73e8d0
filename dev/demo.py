"""`python -m dev demo`: the two texts that `make run` shows once the stack is up, one whole, one as a stream."""

from __future__ import annotations

from contextlib import aclosing

from rich.text import Text

from cli.render import printable, render_result
from dev.supervisor import StackError
from dev.up import Stack
from libs.client import Client, Delta, Restarted, SwitchedProvider, TextAssembler
from libs.errors import PointsmanError

PRODUCT = """\
Name: Fjord pour-over kettle, 0.9 l
Category: Kitchen > Coffee and tea > Kettles
Material: brushed stainless steel, ash-wood handle
Features: gooseneck spout, built-in thermometer (40 to 100 °C), works on gas, electric and induction hobs
Weight: 610 g. Dishwasher: no. Warranty: 5 years."""
DESCRIBE = f"Write a product description of about 80 words for an online shop.\n\n{PRODUCT}"
ADVERTISE = (
    f"Write a short, friendly e-mail paragraph announcing this product to returning customers.\n\n{PRODUCT}"
)
#: The content type of the texts, for a catalog that knows it; any other has a default.
CONTENT_TYPE = "product_description"


async def demonstrate(stack: Stack) -> None:
    """Generate both texts and print them with their account. Raises StackError where the router refuses."""
    screen, catalog = stack.screen, stack.choice.catalog
    content_type = CONTENT_TYPE if CONTENT_TYPE in catalog.content_types else catalog.default_content_type
    if not stack.tenant_key:
        screen.write_sentence(
            "This catalog admits its own tenants only: set POINTSMAN_KEY to the key of one to see two texts."
        )
        return
    try:
        async with Client(stack.plan.address("router"), stack.tenant_key, timeout=90.0) as client:
            screen.write_sentence("")
            screen.write_sentence(f"Router.Generate, as {content_type}:")
            result = await client.generate(DESCRIBE, content_type=content_type)
            screen.print(render_result(result, title="Fjord pour-over kettle"))
            screen.write_sentence("")
            screen.write_sentence(f"Router.StreamGenerate, as {content_type}:")
            await _stream(client, stack, content_type)
    except PointsmanError as error:
        raise StackError(f"The router answered {error.reason}: {error.message}") from error
    screen.write_sentence("")


async def _stream(client: Client, stack: Stack, content_type: str) -> None:
    assembler, flow = TextAssembler(), stack.screen.flow()
    async with aclosing(client.stream(ADVERTISE, content_type=content_type)) as events:
        async for event in events:
            assembler.feed(event)
            if isinstance(event, Delta):
                flow.write(printable(event.text))
            elif isinstance(event, Restarted):
                flow.end()
                stack.screen.write_sentence("\n[the answer begins anew]")
            elif isinstance(event, SwitchedProvider):
                stack.screen.print(Text(f"[{event.selection.provider} goes on]", "dim"))
    flow.end()
    stack.screen.write_sentence("\n")
    result = assembler.result
    if result is not None:
        stack.screen.print(render_result(result, show_text=False))
