"""The order of a conversation's turns: system messages, results of calls, neighbours of one role, first and last.

For every vendor: a turn that says nothing is left out, and the results of calls stand right behind them, in the
calls' order, since some vendors pair them by place. Most refuse a call without a result and a result without a call:
the first gets an empty result, the second becomes the user's words.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from libs.conversation import Message, Part, Reasoning, Refusal, Role, Text
from services.router.providers.wires.validity.call_ids import CallIds
from services.router.providers.wires.validity.rules import Begun, Rules

#: Turns that only a vendor's form asks for.
BEGIN = Message(Role.USER, "Begin.")
CONTINUE = Message(Role.USER, "Continue.")
_ACKNOWLEDGED = Message(Role.ASSISTANT, "Understood.")
#: The beginning of the user's words that were a result without a call.
_RESULT = "Result of a tool:"
#: The text of a result without any where the vendor wants one.
NO_OUTPUT = "(no output)"


def is_text_of_assistant(message: Message) -> bool:
    """Returns True if the assistant says something and calls nothing."""
    return message.role is Role.ASSISTANT and not message.tool_calls


def are_plain(messages: Sequence[Message]) -> bool:
    """Returns True if the messages are texts in an order that every vendor takes: of the system first, then of the
    user and the assistant in turn, the last of the user. Then there is nothing to do."""
    before: Role | None = None
    for message in messages:
        role, text = message.role, message.text
        if not text or message.tool_calls or message.parts or text.isspace() or role is before:
            return False
        if role is Role.USER or (role is Role.ASSISTANT and before is Role.USER):
            before = role
        elif role is not Role.SYSTEM or before is not None:
            return False
    return before is Role.USER


def is_blank(message: Message) -> bool:
    """Returns True if a message says nothing: it has white space or thoughts at most."""
    if not message.parts:
        return not message.text or message.text.isspace()
    return all(isinstance(part, Reasoning) or _is_blank_part(part) for part in message.parts)


def drop_blanks(messages: Sequence[Message]) -> list[Message]:
    """Returns the messages that say something, without blank parts. Results may be blank, and so may the text beside
    calls, which is then left out."""
    kept: list[Message] = []
    for message in messages:
        if message.role is Role.TOOL:
            kept.append(message)
            continue
        if not is_blank(message):
            kept.append(_without_blank_parts(message))
        elif message.tool_calls:
            kept.append(replace(_without_blank_parts(message), text=""))
    if kept and is_text_of_assistant(kept[-1]) and messages[-1].role is Role.USER:
        # The assistant has spoken already.
        kept.append(CONTINUE)
    return kept


def _without_blank_parts(message: Message) -> Message:
    if not any(map(_is_blank_part, message.parts)):
        return message
    return replace(message, parts=tuple(part for part in message.parts if not _is_blank_part(part)))


def _is_blank_part(part: Part) -> bool:
    return isinstance(part, Text | Refusal) and not part.text.strip()


def place_system(messages: list[Message]) -> list[Message]:
    """Returns the messages with those of the system first; where there are no others the last is the user's."""
    first = [message for message in messages if message.role is Role.SYSTEM]
    rest = [message for message in messages if message.role is not Role.SYSTEM]
    if first and not rest:
        rest = [replace(first.pop(), role=Role.USER)]
    return first + rest


def pair_results(messages: list[Message], ids: CallIds) -> list[Message]:
    """Returns the messages with an id of its own for each call, and each call's result behind it. A result whose id
    names no call of the conversation belongs to the call that has none, if there is one. Results without a call
    become the user's words where they stand."""
    named = {call.id for message in messages for call in message.tool_calls}
    out: list[Message] = []
    at = 0
    while at < len(messages):
        message = messages[at]
        at += 1
        if not message.tool_calls:
            out.append(_say_result(message))
            continue
        # Calls made at once may come as a message each.
        begin = at - 1
        while at < len(messages) and messages[at].tool_calls:
            at += 1
        message = _join(messages[begin:at])
        calls = [call for called in messages[begin:at] for call in called.tool_calls]
        end = at
        #: Places of results by the call's id; None: their id names no call.
        results: dict[str | None, deque[int]] = defaultdict(deque)
        while end < len(messages) and not messages[end].tool_calls:
            if messages[end].role is Role.TOOL:
                name = messages[end].tool_call_id
                results[name if name in named else None].append(end)
            end += 1
        renamed, answers, used = [], [], set()
        new_ids: dict[str, str] = {}
        for call in calls:
            sent = ids.take(call.id)
            renamed.append(call if sent == call.id else replace(call, id=sent))
            new_ids.setdefault(call.id, sent)
            found = results[call.id] or results[None]
            if not found:
                answers.append(Message(Role.TOOL, NO_OUTPUT, tool_call_id=sent))
                continue
            place = found.popleft()
            used.add(place)
            answers.append(replace(messages[place], tool_call_id=sent))
        parts = tuple(_rename(part, new_ids) for part in message.parts)
        out.append(replace(message, tool_calls=tuple(renamed), parts=parts))
        out += answers
        out += [_say_result(messages[place]) for place in range(at, end) if place not in used]
        at = end
    return out


def _say_result(message: Message) -> Message:
    """Returns a result without a call as the user's words; any other message as it is."""
    if message.role is not Role.TOOL:
        return message
    parts = (Text(_RESULT), *message.content) if message.parts else ()
    text = "" if parts else f"{_RESULT} {message.text or NO_OUTPUT}"
    return Message(Role.USER, text, parts=parts)


def merge_neighbours(messages: list[Message]) -> list[Message]:
    """Returns turns of users and assistants that alternate."""
    runs: list[list[Message]] = []
    for message in messages:
        last = runs[-1][-1] if runs else None
        same = last is not None and last.role is message.role and not last.tool_calls
        if same and message.role in (Role.USER, Role.ASSISTANT):
            runs[-1].append(message)
        else:
            runs.append([message])
    return [_join(run) for run in runs]


def split_begun(messages: list[Message]) -> tuple[list[Message], str]:
    """Returns the messages without those of the assistant at their end, and the text of these: a begun answer."""
    end = len(messages)
    while end and is_text_of_assistant(messages[end - 1]):
        end -= 1
    return messages[:end], "\n\n".join([message.written for message in messages[end:]])


def order_turns(messages: list[Message], rules: Rules, *, prefill: bool) -> list[Message]:
    """Returns the messages with the first, the last and the turns after results as the vendor wants them. `prefill`:
    the model goes on from a begun answer."""
    if not rules.user_after_results:
        messages = _acknowledge(messages)
    if not rules.blank_results:
        messages = [
            replace(message, text=NO_OUTPUT, parts=())
            if message.role is Role.TOOL and is_blank(message)
            else message
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


def _join(messages: Sequence[Message]) -> Message:
    """Returns messages of one speaker as one: what all of them say, and the calls of the last."""
    last = messages[-1]
    if len(messages) == 1:
        return last
    if any(message.parts for message in messages):
        return replace(last, text="", parts=tuple(part for message in messages for part in message.content))
    return replace(last, text="\n\n".join([message.text for message in messages if message.text]))


def _rename(part: Part, ids: Mapping[str, str]) -> Part:
    """Returns the part with the id of its call as it is sent."""
    if not isinstance(part, Reasoning) or not part.tool_call_id:
        return part
    return replace(part, tool_call_id=ids.get(part.tool_call_id, part.tool_call_id))
