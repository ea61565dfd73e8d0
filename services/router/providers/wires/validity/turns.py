"""The order of a conversation's turns: system messages, results of calls, neighbours of one role, first and last.

For every vendor: a turn that says nothing is left out, and the results of calls stand right behind them, in the
calls' order, since some vendors pair them by place.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence

from msgspec.structs import replace

from libs.conversation import Message, Role
from services.router.providers.wires.validity.call_ids import CallIds
from services.router.providers.wires.validity.rules import Begun, Rules

#: Turns that only a vendor's form asks for.
BEGIN = Message(Role.USER, "Begin.")
CONTINUE = Message(Role.USER, "Continue.")
_ACKNOWLEDGED = Message(Role.ASSISTANT, "Understood.")
#: The text of a result without any where the vendor wants one.
NO_OUTPUT = "(no output)"


def is_text_of_assistant(message: Message) -> bool:
    """Returns True if the assistant says something and calls nothing."""
    return message.role is Role.ASSISTANT and not message.tool_calls


def is_blank(message: Message) -> bool:
    """Returns True if a message has no text but white space."""
    return not message.text or message.text.isspace()


def drop_blanks(messages: Sequence[Message]) -> list[Message]:
    """Returns the messages that say something. Results may be blank, and so may the text beside calls, which is then
    left out."""
    kept: list[Message] = []
    for message in messages:
        if message.role is Role.TOOL or not is_blank(message):
            kept.append(message)
        elif message.tool_calls:
            kept.append(replace(message, text="") if message.text else message)
    return kept


def place_system(messages: list[Message]) -> list[Message]:
    """Returns the messages with those of the system first; where there are no others the last is the user's."""
    first = [message for message in messages if message.role is Role.SYSTEM]
    rest = [message for message in messages if message.role is not Role.SYSTEM]
    if first and not rest:
        rest = [Message(Role.USER, first.pop().text)]
    return first + rest


def pair_results(messages: list[Message], ids: CallIds) -> list[Message]:
    """Returns the messages with an id of its own for each call, and each call's result behind it. Results without a
    call stay where they are."""
    out: list[Message] = []
    at = 0
    while at < len(messages):
        message = messages[at]
        at += 1
        if not message.tool_calls:
            out.append(message)
            continue
        # Calls made at once may come as a message each.
        calls, text = list(message.tool_calls), message.text
        while at < len(messages) and messages[at].tool_calls:
            calls += messages[at].tool_calls
            text = join(text, messages[at].text)
            at += 1
        end = at
        results: dict[str, deque[int]] = defaultdict(deque)
        while end < len(messages) and not messages[end].tool_calls:
            if messages[end].role is Role.TOOL:
                results[messages[end].tool_call_id].append(end)
            end += 1
        renamed, answers, used = [], [], set()
        for call in calls:
            sent = ids.take(call.id)
            renamed.append(call if sent == call.id else replace(call, id=sent))
            if results[call.id]:
                place = results[call.id].popleft()
                used.add(place)
                answers.append(replace(messages[place], tool_call_id=sent))
        out.append(replace(message, text=text, tool_calls=tuple(renamed)))
        out += answers
        out += [messages[place] for place in range(at, end) if place not in used]
        at = end
    return out


def merge_neighbours(messages: list[Message]) -> list[Message]:
    """Returns turns of users and assistants that alternate."""
    out: list[Message] = []
    for message in messages:
        last = out[-1] if out else None
        same = last is not None and last.role is message.role and message.role in (Role.USER, Role.ASSISTANT)
        if last is not None and same and not last.tool_calls:
            out[-1] = replace(message, text=join(last.text, message.text))
        else:
            out.append(message)
    return out


def order_turns(messages: list[Message], rules: Rules, *, prefill: bool) -> list[Message]:
    """Returns the messages with the first, the last and the turns after results as the vendor wants them. `prefill`:
    the model goes on from a begun answer."""
    if not rules.user_after_results:
        messages = _acknowledge(messages)
    if not rules.blank_results:
        messages = [
            replace(message, text=NO_OUTPUT) if message.role is Role.TOOL and is_blank(message) else message
            for message in messages
        ]
    if rules.user_first:
        spoken = (i for i, message in enumerate(messages) if message.role is not Role.SYSTEM)
        begin = next(spoken, len(messages))
        if begin == len(messages) or messages[begin].role is not Role.USER:
            messages.insert(begin, BEGIN)
    refused = rules.begun is Begun.REFUSED or (rules.begun is Begun.PREFILL and not prefill)
    if refused and is_text_of_assistant(messages[-1]):
        messages.append(CONTINUE)
    return messages


def _acknowledge(messages: list[Message]) -> list[Message]:
    out: list[Message] = []
    for message in messages:
        if out and out[-1].role is Role.TOOL and message.role is Role.USER:
            out.append(_ACKNOWLEDGED)
        out.append(message)
    return out


def join(one: str, two: str) -> str:
    """Returns two texts as paragraphs of one."""
    return f"{one}\n\n{two}" if one and two else one or two
