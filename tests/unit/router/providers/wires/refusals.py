"""Refusals that real providers sent, each with the place where it was seen, and read by a person: whose fault it is,
and whether another model may serve.

`seen`: an issue or pull request as owner/repository#number, a file as owner/repository:path, or "code" for one that
stands in several public tests and programs. Names of callers, tools and files are changed.
"""

# ruff: noqa: E501

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import Any

from libs.types import ErrorClass

C = ErrorClass
HERE, WRONG = C.UNSUPPORTED_HERE, C.INVALID_REQUEST


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refusal. `others`: another model is to be asked."""

    wire: str
    status: int
    body: Any
    error_class: ErrorClass
    others: bool
    seen: str

    @property
    def tuned(self) -> bool:
        """True for the half on which the rules were tuned; the other half was only measured."""
        return zlib.crc32(json.dumps(self.body, ensure_ascii=False).encode()) % 2 == 0


def _error(message: str, kind: str = "invalid_request_error", **more: Any) -> dict[str, Any]:
    """An error as OpenAI and its like write it."""
    return {"error": {"message": message, "type": kind, "param": None, "code": None, **more}}


def _anthropic(message: str) -> dict[str, Any]:
    return {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": message},
        "request_id": "req_1",
    }


def _google(
    message: str, *details: dict[str, Any], status: str = "INVALID_ARGUMENT", code: int = 400
) -> dict[str, Any]:
    return {
        "error": {
            "code": code,
            "message": message,
            "status": status,
            **({"details": list(details)} if details else {}),
        }
    }


def _bedrock(message: str) -> dict[str, Any]:
    return {"message": message}


def _mistral(message: Any, kind: str = "invalid_request_error", code: str | None = None) -> dict[str, Any]:
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


def _vllm(message: str) -> dict[str, Any]:
    return {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}


def _xai(message: str) -> dict[str, Any]:
    return {"code": "Client specified an invalid argument", "error": message}


def _wrapped(raw: Any, provider: str, status: int = 400) -> dict[str, Any]:
    """An error as OpenRouter hands it on."""
    text = raw if isinstance(raw, str) else json.dumps(raw)
    return {
        "error": {
            "message": "Provider returned error",
            "code": status,
            "metadata": {"raw": text, "provider_name": provider},
        }
    }


def _rows(*rows: tuple[str, int, Any, ErrorClass, bool, str]) -> list[Refusal]:
    return [Refusal(*row) for row in rows]


OPENAI = _rows(
    ("openai", 400, _error("Unsupported parameter: 'temperature' is not supported with this model.", param="temperature", code="unsupported_parameter"), HERE, True, "appatalks/eva-agent#83"),
    ("openai", 400, _error("Unsupported parameter: 'temperature' is not supported with this model.", param="temperature"), HERE, True, "OpenHands/software-agent-sdk#1837"),
    ("openai", 400, _error("Unsupported value: 'temperature' does not support 0.1 with this model. Only the default (1) value is supported.", param="temperature", code="unsupported_value"), HERE, True, "microsoft/vscode#255504"),
    ("openai", 400, _error("Unsupported value: 'minimal' is not supported with the 'gpt-5.1' model. Supported values are: 'none', 'low', 'medium', and 'high'.", param="reasoning.effort", code="unsupported_value"), HERE, True, "anomalyco/opencode#4451"),
    ("openai_responses", 400, _error("Unsupported value: 'minimal' is not supported with the 'gpt-5.1' model. Supported values are: 'none', 'low', 'medium', and 'high'."), HERE, True, "anomalyco/opencode#4451"),
    ("openai", 400, _error("Unsupported value: 'reasoning_effort' does not support 'none' with this model. Supported values are: 'minimal', 'low', 'medium', and 'high'."), HERE, True, "Kilo-Org/cloud#3807"),
    ("openai", 400, _error("Unsupported value: 'messages[0].role' does not support 'developer' with this model.", param="messages[0].role", code="unsupported_value"), HERE, True, "pydantic/pydantic-ai:tests"),
    ("openai", 400, _error("Unsupported value: 'messages[0].role' does not support 'system' with this model.", param="messages[0].role", code="unsupported_value"), HERE, True, "pydantic/pydantic-ai:tests"),
    ("openai", 400, _error("Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model. Learn more about supported models at the Structured Outputs guide."), HERE, True, "AgnostiqHQ/multi-agent-llm#2"),
    ("openai", 400, _error("Invalid parameter: 'response_format' of type 'json_schema' is not supported with model version `gpt-4o`.", param="response_format"), HERE, True, "openai/openai-dotnet#276"),
    ("openai", 400, _error("Web search options not supported with this model."), HERE, True, "pydantic/pydantic-ai:tests"),
    ("openai", 400, _error("Invalid schema for response_format 'answer': In context=(), 'additionalProperties' is required to be supplied and to be false.", param="response_format"), HERE, True, "dottxt-ai/outlines#844"),
    ("azure_openai", 400, _error("Invalid schema for response_format 'custom_schema': In context=('properties', 'a'), 'additionalProperties' must be supplied and set to false.", param="response_format"), HERE, True, "spring-projects/spring-ai#4422"),
    ("openai", 400, _error("Invalid schema for function 'files-set': In context=('properties', 'permissions'), 'additionalProperties' is required to be supplied and to be false.", param="tools[22].parameters", code="invalid_function_parameters"), HERE, True, "lastmile-ai/openai-agents-mcp#2"),
    ("openai", 400, _error("max_tokens is too large: 10000. This model supports at most 4096 completion tokens, whereas you provided 10000.", param="max_tokens"), HERE, True, "logancyang/obsidian-copilot#256"),
    ("openai", 400, _error("Invalid content type. image_url is only supported by certain models."), HERE, True, "roboflow/awesome-openai-vision-api-experiments#11"),
    ("openai", 400, _error("Your organization must be verified to stream this model. Please go to the settings and click on Verify Organization.", param="stream", code="unsupported_value"), HERE, True, "code"),
    ("openai", 404, _error("This model is only supported in v1/responses and not in v1/chat/completions.", param="model"), HERE, True, "code"),
    ("openai", 400, _error("'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.", param="messages"), HERE, True, "code"),
    ("openai_responses", 400, _error("Response input messages must contain the word 'json' in some form to use 'text.format' of type 'json_object'.", param="text.format"), HERE, True, "code"),
    ("openai", 400, _error("The use of the web search tool is not supported.", code="unsupported_value"), HERE, True, "code"),
    ("openai", 400, _error("Invalid 'tools': array too long. Expected an array with maximum length 128, but got an array with length 140 instead.", param="tools", code="array_above_max_length"), HERE, True, "code"),
    ("openai", 400, _error("Unrecognized request argument supplied: functions"), HERE, True, "567-labs/instructor#155"),
    ("openai", 400, _error("Unknown parameter: 'messages[1].reasoning_content'.", param="messages[1].reasoning_content", code="unknown_parameter"), HERE, True, "code"),
    ("openai", 400, _error("Function tools with reasoning_effort are not supported for gpt-5.4 in /v1/chat/completions. Please use /v1/responses instead.", param="reasoning_effort"), HERE, True, "code"),
    ("openai", 400, _error("Invalid 'stop': array too long. Expected an array with maximum length 4, but got an array with length 5 instead.", param="stop", code="array_above_max_length"), HERE, True, "code"),
    ("openai", 400, _error("Invalid schema for function 'find': schema must have type 'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level.", param="tools[0].function.parameters", code="invalid_function_parameters"), HERE, True, "code"),
    ("openai", 400, _error("Invalid schema for response_format 'answer': In context=('properties', 'a'), 'oneOf' is not permitted.", param="response_format"), HERE, True, "code"),
    ("azure_openai", 400, {"error": {"code": "BadRequest", "message": "Model {modelName} is enabled only for api versions 2024-12-01-preview and later"}}, HERE, True, "Azure-Samples/azure-search-openai-demo#2496"),
    ("azure_openai", 400, {"error": {"code": "BadRequest", "message": "response_format value as json_schema is enabled only for api versions 2024-08-01-preview and later"}}, HERE, True, "code"),
    ("azure_openai", 400, {"error": {"code": "OperationNotSupported", "message": "The chatCompletion operation does not work with the specified model, gpt-35-turbo-instruct. Please choose different model and try again."}}, HERE, True, "code"),
    # Everyone would say it.
    ("openai", 400, _error("Invalid type for 'messages[0].content': expected one of a string or array of objects, but got an integer instead.", param="messages[0].content", code="invalid_type"), WRONG, False, "code"),
    ("openai", 400, _error("An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. (insufficient tool messages following tool_calls message)", code="invalid_request_error"), WRONG, False, "langgenius/dify-official-plugins#2352"),
    ("openai", 400, _error("Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.", param="messages.[2].role"), WRONG, False, "qwersyk/Newelle#425"),
    ("openai", 400, _error("Missing required parameter: 'messages[0].content[0].type'.", param="messages[0].content[0].type", code="missing_required_parameter"), WRONG, False, "code"),
    ("openai", 400, _error("Invalid 'tools[0].function.name': string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'.", param="tools[0].function.name", code="invalid_value"), WRONG, False, "code"),
    ("openai", 400, _error("Invalid value for 'content': expected a string, got null.", param="messages.[1].content"), WRONG, False, "code"),
    ("openai", 400, _error("Invalid value: 'function'. Supported values are: 'system', 'assistant', 'user', and 'tool'.", param="messages[2].role", code="invalid_value"), WRONG, False, "code"),
    ("openai", 400, _error("Invalid schema for function 'ask': In context=('properties', 'ids'), array schema missing items.", param="tools[0].function.parameters", code="invalid_function_parameters"), WRONG, False, "code"),
    ("openai", 400, _error("Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.", param="messages", code="empty_array"), WRONG, False, "code"),
    ("openai", 400, _error("Duplicate value for 'tool_call_id' of 'call_1' in message[4].", param="messages[4]", code="duplicate_value"), WRONG, False, "code"),
    ("openai", 400, _error("Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 5 instead.", param="temperature", code="decimal_above_max_value"), WRONG, False, "code"),
    ("openai", 400, _error("We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)"), WRONG, False, "code"),
    ("openai", 400, _error("Invalid 'messages[1].tool_calls[0].id': string too long. Expected a string with maximum length 40, but got a string with length 65 instead.", param="messages[1].tool_calls[0].id", code="string_above_max_length"), WRONG, False, "code"),
    ("azure_openai", 400, _error("Tool names must be unique.", param="tools"), WRONG, False, "danny-avila/LibreChat#13162"),
)  # fmt: skip

ANTHROPIC = _rows(
    ("anthropic", 400, _anthropic("`temperature` and `top_p` cannot both be specified for this model. Please use only one."), HERE, True, "infiniflow/ragflow#11815"),
    ("openai_compatible", 400, _anthropic("Error from provider (Anthropic): `temperature` and `top_p` cannot both be specified for this model. Please use only one."), HERE, True, "anomalyco/opencode#28930"),
    ("anthropic", 400, _anthropic("temperature and top_p cannot both be specified for this model. Please use only one."), HERE, True, "jekalmin/extended_openai_conversation#428"),
    ("anthropic", 400, _anthropic("`temperature` is deprecated for this model."), HERE, True, "code"),
    ("anthropic", 400, _anthropic("tools.9.custom.input_schema: input_schema does not support oneOf, allOf, or anyOf at the top level"), HERE, True, "anthropics/claude-code#40075"),
    ("anthropic", 400, _anthropic("output_format.schema: For 'integer' type, property 'minimum' is not supported"), HERE, True, "agentjido/req_llm#302"),
    ("anthropic", 400, _anthropic("output_config.format.schema: For 'array' type, 'minItems' values other than 0 or 1 are not supported"), HERE, True, "ghostlobster/memorize-everything#93"),
    ("anthropic", 400, _anthropic("`temperature` may only be set to 1 when thinking is enabled. Please consult our documentation at the extended thinking page."), HERE, True, "MartialBE/one-hub#529"),
    ("anthropic", 400, _anthropic("Thinking may not be enabled when tool_choice forces tool use."), HERE, True, "langchain-ai/langchain#35539"),
    ("anthropic", 400, _anthropic("This model does not support effort level 'xhigh'. Supported levels: high, low, max, medium."), HERE, True, "pydantic/pydantic-ai:tests"),
    ("anthropic", 400, _anthropic("adaptive thinking is not supported on this model"), HERE, True, "code"),
    ("anthropic", 400, _anthropic("\"thinking.type.enabled\" is not supported for this model. Use \"thinking.type.adaptive\" and \"output_config.effort\" to control thinking behavior."), HERE, True, "code"),
    ("anthropic", 400, _anthropic("This model does not support assistant message prefill. The conversation must end with a user message."), HERE, True, "code"),
    ("anthropic", 400, _anthropic("tools.0.custom.strict: Extra inputs are not permitted"), HERE, True, "code"),
    ("anthropic", 400, _anthropic("output_config: Extra inputs are not permitted"), HERE, True, "code"),
    ("anthropic", 400, _anthropic("max_tokens: 64000 > 8192, which is the maximum allowed number of output tokens for claude-3-5-sonnet-20241022"), HERE, True, "code"),
    ("anthropic", 400, _anthropic("'claude-3-5-haiku-20241022' does not support image input."), HERE, True, "code"),
    ("anthropic", 400, _anthropic("'claude-3-haiku-20240307' does not support thinking."), HERE, True, "code"),
    ("anthropic", 400, _anthropic("messages.1.content.0: Invalid `signature` in `thinking` block"), HERE, True, "code"),
    # Everyone would say it.
    ("anthropic", 400, _anthropic("messages: text content blocks must be non-empty"), WRONG, False, "anthropics/claude-code#59812"),
    ("anthropic", 400, _anthropic("tools: Tool names must be unique."), WRONG, False, "danny-avila/LibreChat#13162"),
    ("anthropic", 400, _anthropic("messages.1.content.1: `tool_use` ids must be unique"), WRONG, False, "trycua/cua#524"),
    ("anthropic", 400, _anthropic("messages.4: `tool_use` ids were found without `tool_result` blocks immediately after: call_4d25. Each `tool_use` block must have a corresponding `tool_result` block in the next message."), WRONG, False, "lidge-jun/opencodex#620"),
    ("anthropic", 400, _anthropic("messages.7.content.0: unexpected `tool_use_id` found in `tool_result` blocks: toolu_01. Each `tool_result` block must have a corresponding `tool_use` block in the previous message."), WRONG, False, "anthropics/claude-code#64383"),
    ("anthropic", 400, _anthropic("messages: roles must alternate between \"user\" and \"assistant\", but found multiple \"user\" roles in a row"), WRONG, False, "code"),
    ("anthropic", 400, _anthropic("messages: at least one message is required"), WRONG, False, "code"),
    ("anthropic", 400, _anthropic("messages.0.content: Field required"), WRONG, False, "code"),
    ("anthropic", 400, _anthropic("tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'"), WRONG, False, "code"),
    ("anthropic", 400, _anthropic("messages.0.content.1.image.source.base64: invalid base64 data"), WRONG, False, "code"),
    ("anthropic", 400, _anthropic("tools.0.custom.input_schema: JSON schema is invalid. It must match JSON Schema draft 2020-12."), WRONG, False, "code"),
    ("anthropic", 400, _anthropic("messages: Unexpected role \"tool\". The Messages API accepts a top-level `system` parameter."), WRONG, False, "code"),
)  # fmt: skip

GOOGLE = _rows(
    ("gemini", 400, _google("Invalid JSON payload received. Unknown name \"additionalProperties\" at 'tools[10].function_declarations[0].parameters.properties[0].value.items': Cannot find field."), HERE, True, "glowingjade/obsidian-smart-composer#455"),
    ("gemini", 400, _google("Invalid JSON payload received. Unknown name \"const\" at 'tools[0].function_declarations[0].parameters.properties[3].value': Cannot find field.", {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"field": "tools[0]", "description": "Invalid JSON payload received."}]}), HERE, True, "danny-avila/LibreChat#11761"),
    ("gemini", 400, _google("Invalid JSON payload received. Unknown name \"$schema\" at 'request.tools[0].function_declarations[0].parameters': Cannot find field."), HERE, True, "router-for-me/CLIProxyAPI#97"),
    ("gemini", 400, _google("Invalid JSON payload received. Unknown name \"additional_properties\" at 'generation_config.response_schema': Cannot find field."), HERE, True, "pickeld/pick-a-recipe#29"),
    ("gemini", 400, _google("Invalid JSON payload received. Unknown name \"id\" at 'contents[7].parts[0].function_response': Cannot find field."), HERE, True, "google-gemini/gemini-cli#13972"),
    ("gemini", 400, _google("Invalid JSON payload received. Unknown name \"type\" at 'tools[0].function_declarations[93].parameters.properties[4].value': Proto field is not repeating, cannot start list."), HERE, True, "zed-industries/zed#53919"),
    ("gemini", 400, _google("Invalid value at 'generation_config.response_schema.properties[4].value.any_of[1].type' (type.googleapis.com/google.ai.generativelanguage.v1beta.Type), \"null\""), HERE, True, "simonw/llm-gemini#49"),
    ("vertex", 400, _google("Unable to submit request because Thinking can't be disabled for this model. Remove 'thinking_config.thinking_budget' from your request and try again."), HERE, True, "pydantic/pydantic-ai#1967"),
    ("gemini", 400, _google("The model does not support setting thinking_budget to 0."), HERE, True, "GewoonJaap/gemini-cli-openai#23"),
    ("gemini", 400, _google("The thinking budget (52428) is invalid."), HERE, True, "RooCodeInc/Roo-Code#4399"),
    ("gemini", 400, _google("Budget 0 is invalid. This model only works in thinking mode."), HERE, True, "vercel/ai#8027"),
    ("gemini", 400, {"error": {"message": "Invalid reasoning_effort: minimal. Valid values are: high, low, medium, none", "code": 400, "status": "INVALID_ARGUMENT"}}, HERE, True, "ctrl-space-labs/gendox-core#480"),
    ("gemini", 400, _google("Function calling is not enabled for models/gemma-3-27b-it"), HERE, True, "code"),
    ("gemini", 400, _google("Developer instruction is not enabled for models/gemma-3-27b-it"), HERE, True, "code"),
    ("gemini", 400, _google("JSON mode is not enabled for this model"), HERE, True, "code"),
    ("gemini", 400, _google("Multiple candidates is not enabled for this model"), HERE, True, "code"),
    ("gemini", 400, _google("Function calling with a response mime type: 'application/json' is unsupported"), HERE, True, "code"),
    ("gemini", 400, _google("* GenerateContentRequest.tools[0].function_declarations[0].parameters.properties: should be non-empty for OBJECT type"), HERE, True, "code"),
    ("gemini", 400, _google("* GenerateContentRequest.tools[0].function_declarations[2].parameters.properties[a].format: only 'enum' and 'date-time' are supported for STRING type"), HERE, True, "code"),
    ("gemini", 400, _google("* GenerateContentRequest.tools[0].function_declarations[0].parameters.properties[level].enum: only allowed for STRING type"), HERE, True, "code"),
    ("gemini", 400, _google("The specified schema produces a constraint that has too many states for serving. Typical causes of this error are schemas with lots of text."), HERE, True, "code"),
    ("gemini", 400, _google("Function call is missing a thought_signature in functionCall parts. This is required for tools to work correctly, and missing thought_signature may lead to degraded model performance."), HERE, True, "code"),
    ("gemini", 400, _google("Tool use with function calling is unsupported"), HERE, True, "code"),
    ("gemini", 400, _google("Thinking level is not supported for this model."), HERE, True, "code"),
    ("vertex", 400, _google("Multiple tools are supported only when they are all search tools."), HERE, True, "code"),
    ("vertex", 400, _google("Unable to submit request because it has a maxOutputTokens value of 100000 but the supported range is from 1 (inclusive) to 65537 (exclusive). Update the value and try again."), HERE, True, "code"),
    # Everyone would say it.
    ("gemini", 400, _google("Please ensure that function call turn comes immediately after a user turn or after a function response turn."), WRONG, False, "code"),
    ("gemini", 400, _google("Please ensure that the number of function response parts is equal to the number of function call parts of the function call turn."), WRONG, False, "code"),
    ("gemini", 400, _google("Please use a valid role: user, model."), WRONG, False, "code"),
    ("gemini", 400, _google("* GenerateContentRequest.contents: contents is not specified"), WRONG, False, "code"),
    ("gemini", 400, _google("Unable to process input image. Please retry or report."), WRONG, False, "code"),
    ("gemini", 400, _google("Invalid value at 'safety_settings[0].category' (type.googleapis.com/google.ai.HarmCategory), \"X\""), WRONG, False, "code"),
    ("vertex", 400, _google("Unable to submit request because it has a temperature value of 3.0 but the supported range is from 0 (inclusive) to 2.0 (inclusive)."), WRONG, False, "code"),
    ("gemini", 400, _google("Invalid JSON payload received. Unexpected token. {'a': 1} ^"), WRONG, False, "code"),
    ("gemini", 400, _google("Duplicate function declaration found: lookup"), WRONG, False, "code"),
)  # fmt: skip

BEDROCK = _rows(
    ("bedrock", 400, _bedrock("The model is unsupported for streaming."), HERE, True, "aws-samples/amazon-bedrock-client-for-mac#112"),
    ("bedrock", 400, _bedrock("This model doesn't support the image field for user messages. Remove image and try again."), HERE, True, "earendil-works/pi#8960"),
    ("bedrock", 400, _bedrock("This model doesn't support the toolConfig.toolChoice.any field. Remove toolConfig.toolChoice.any and try again."), HERE, True, "strands-agents/harness-sdk#1241"),
    ("bedrock", 400, _bedrock("This model doesn't support tool use in streaming mode."), HERE, True, "earendil-works/pi#3739"),
    ("bedrock", 400, _bedrock("This model doesn't support tool use."), HERE, True, "code"),
    ("bedrock", 400, _bedrock("This model doesn't support documents."), HERE, True, "code"),
    ("bedrock", 400, _bedrock("This model doesn't support system messages. Try again without a system message or use a model that supports system messages."), HERE, True, "code"),
    ("bedrock", 400, _bedrock("This model doesn't support the reasoningContent.reasoningText.text field for assistant messages. Remove it and try again."), HERE, True, "code"),
    ("bedrock_invoke", 400, _bedrock("Malformed input request: #: subject must not be valid against schema {\"required\":[\"messages\"]}#/tool_choice: extraneous key [disable_parallel_tool_use] is not permitted, please reformat your input and try again."), HERE, True, "anthropics/anthropic-sdk-typescript#592"),
    ("bedrock_invoke", 400, _bedrock("Malformed input request: extraneous key [stop_sequences] is not permitted, please reformat your input and try again."), HERE, True, "langchain-ai/langchain-aws#62"),
    ("bedrock", 400, _bedrock("The model returned the following errors: `temperature` and `top_p` cannot both be specified for this model. Please use only one."), HERE, True, "skydiscover-ai/skydiscover#15"),
    ("bedrock", 400, _bedrock("The maximum tokens you requested exceeds the model limit of 4096. Try again with a maximum tokens value that is lower than 4096."), HERE, True, "code"),
    ("bedrock", 400, _bedrock("The model returned the following errors: unsupported_parameter: 'reasoning'"), HERE, True, "code"),
    ("bedrock", 400, _bedrock("The model returned the following errors: `temperature` is deprecated for this model."), HERE, True, "code"),
    ("bedrock", 400, _bedrock("The model returned the following errors: tools.0.custom.input_schema: input_schema does not support oneOf, allOf, or anyOf at the top level"), HERE, True, "code"),
    # Everyone would say it.
    ("bedrock", 400, _bedrock("The number of toolResult blocks at messages.4.content exceeds the number of toolUse blocks of previous turn."), WRONG, False, "strands-agents/harness-sdk#1435"),
    ("bedrock", 400, _bedrock("The model returned the following errors: messages.2: `tool_use` ids were found without `tool_result` blocks immediately after: tooluse_1."), WRONG, False, "pydantic/pydantic-ai#3253"),
    ("bedrock", 400, _bedrock("A conversation must start with a user message. Try again with a conversation that starts with a user message."), WRONG, False, "code"),
    ("bedrock", 400, _bedrock("The text field in the ContentBlock object at messages.0.content.0 is blank. Add text to the text field, and try again."), WRONG, False, "code"),
    ("bedrock", 400, _bedrock("1 validation error detected: Value '' at 'messages.1.member.content.1.member.toolUse.name' failed to satisfy constraint: Member must have length greater than or equal to 1"), WRONG, False, "code"),
)  # fmt: skip

GROQ_AND_LIKE = _rows(
    ("groq", 400, {"error": {"message": "invalid schema for response format: response_format/json_schema/next_step: minItems is not supported", "type": "invalid_request_error"}}, HERE, True, "i-am-bee/beeai-framework#1215"),
    ("groq", 400, {"error": {"message": "'messages.2' : for 'role:assistant' the following must be satisfied[('messages.2' : property 'reasoning' is unsupported, did you mean 'role'?)]", "type": "invalid_request_error"}}, HERE, True, "karthink/gptel#774"),
    ("groq", 400, {"error": {"message": "'messages.1' : for 'role:assistant' the following must be satisfied[('messages.1' : property 'reasoning_content' is unsupported)]", "type": "invalid_request_error"}}, HERE, True, "janhq/jan#8136"),
    ("groq", 400, {"error": {"message": "`reasoning_format` is not supported with this model", "type": "invalid_request_error", "param": "reasoning_format"}}, HERE, True, "0xPlaygrounds/rig#1134"),
    ("groq", 400, {"error": {"message": "This model does not support response format `json_schema`. See supported models at the structured outputs page.", "type": "invalid_request_error", "param": "response_format"}}, HERE, True, "ItzCrazyKns/Vane#980"),
    ("groq", 400, {"error": {"message": "`tool calling` is not supported with this model", "type": "invalid_request_error"}}, HERE, True, "code"),
    ("groq", 400, {"error": {"message": "json mode cannot be combined with tool/function calling", "type": "invalid_request_error", "param": "response_format"}}, HERE, True, "code"),
    ("groq", 400, {"error": {"message": "`reasoning_effort` must be one of `none` or `default`", "type": "invalid_request_error", "param": "reasoning_effort"}}, HERE, True, "code"),
    ("groq", 400, {"error": {"message": "`max_completion_tokens` must be less than or equal to `8192`, the maximum value for `max_completion_tokens` is less than the `context_window` for this model", "type": "invalid_request_error", "param": "max_completion_tokens"}}, HERE, True, "code"),
    ("groq", 400, {"error": {"message": "messages[1].content must be a string", "type": "invalid_request_error", "param": "messages[1].content"}}, WRONG, False, "code"),
    ("groq", 400, {"error": {"message": "'messages.0' : for 'role:user' the following must be satisfied[('messages.0.content' : value must be a string OR 'messages.0.content' : minimum number of items is 1)]", "type": "invalid_request_error"}}, WRONG, False, "code"),
    ("groq", 400, {"error": {"message": "'messages' : minimum number of items is 1", "type": "invalid_request_error"}}, WRONG, False, "code"),
    ("cerebras", 400, {"message": "Unsupported JSON schema fields: {'minItems', 'items'}", "type": "invalid_request_error", "param": "response_format", "code": "wrong_api_format"}, HERE, True, "musistudio/claude-code-router#708"),
    ("cerebras", 400, {"message": "messages.1.assistant.reasoning_content: property 'messages.1.assistant.reasoning_content' is unsupported", "type": "invalid_request_error", "param": "validation_error", "code": "wrong_api_format"}, HERE, True, "egoist/chatwise-releases#1442"),
    ("cerebras", 400, {"message": "response_format.type: Input should be 'text'", "type": "invalid_request_error", "param": "validation_error", "code": "wrong_api_format"}, HERE, True, "irthomasthomas/llm-cerebras#6"),
    ("cerebras", 400, {"message": "messages.0.user.content: Field required", "type": "invalid_request_error", "param": "validation_error", "code": "wrong_api_format"}, WRONG, False, "code"),
    ("openrouter", 400, _wrapped({"message": "Unsupported JSON schema fields: [\"items\", \"minItems\"]", "type": "invalid_request_error", "param": "response_format", "code": "wrong_api_format"}, "Cerebras"), HERE, True, "musistudio/claude-code-router#338"),
    ("openrouter", 400, _wrapped(_error("Invalid schema for response_format 'json_schema': In context=('properties', 'etymology'), 'additionalProperties' is required to be supplied and to be false.", param="response_format"), "Azure"), HERE, True, "moeru-ai/xsai#202"),
    ("openrouter", 404, {"error": {"message": "No endpoints found that support tool use. To learn more about provider routing, visit the docs.", "code": 404}}, HERE, True, "dnakov/anon-kode#2"),
    ("openrouter", 404, {"error": {"message": "No endpoints found that support tool use. Try disabling \"question\". To learn more about provider routing, visit the docs.", "code": 404}}, HERE, True, "Kilo-Org/kilocode#9006"),
    ("openrouter", 404, {"error": {"message": "No endpoints found that support the provided 'tool_choice' value. To learn more about provider routing, visit the docs.", "code": 404}}, HERE, True, "zed-industries/zed#36094"),
    ("openai_compatible", 404, {"error": {"code": "404", "message": "No endpoints found that support image input", "param": "", "type": ""}}, HERE, True, "JohnnyZ93/oai-compatible-copilot#229"),
    ("openrouter", 404, {"error": {"message": "No endpoints found that can handle the requested parameters. To learn more about provider routing, visit the docs.", "code": 404}}, HERE, True, "code"),
    ("openrouter", 400, _wrapped(_mistral("Unexpected role 'tool' after role 'user'", "invalid_request_message_order", "3230"), "Mistral"), WRONG, False, "charmbracelet/crush#279"),
    ("openrouter", 400, _wrapped("{\"message\":\"This model doesn't support tool use.\"}", "Amazon Bedrock"), HERE, True, "code"),
    ("openrouter", 422, {"message": "unknown field: parameter 'strict' is not a valid field. For proper usage, please refer to the API reference"}, HERE, True, "OpenRouterTeam/openrouter-examples#71"),
    ("xai", 400, _xai("Argument not supported on this model: presencePenalty"), HERE, True, "yym68686/uni-api#105"),
    ("xai", 400, _xai("Model grok-4-latest does not support parameter reasoningEffort."), HERE, True, "BerriAI/litellm#16265"),
    ("xai", 400, _xai("Model grok-4-1-fast-reasoning does not support parameter presencePenalty."), HERE, True, "open-webui/open-webui#21266"),
    ("xai", 400, _xai("Image inputs are not supported by this model."), HERE, True, "code"),
    ("xai", 400, _xai("Each message must have at least one content element."), WRONG, False, "code"),
)  # fmt: skip

MISTRAL_DEEPSEEK_COHERE = _rows(
    ("mistral", 422, {"object": "Error", "detail": [{"type": "extra_forbidden", "loc": ["body", "tools"], "msg": "Extra inputs are not permitted", "input": []}], "type": "invalid_request_error", "code": 3001}, HERE, True, "partITech/php-mistral#76"),
    ("mistral", 422, _mistral({"detail": [{"type": "extra_forbidden", "loc": ["body", "messages", 0, "user", "name"], "msg": "Extra inputs are not permitted", "input": ""}]}), HERE, True, "Gage-Technologies/mistral-go#2"),
    ("mistral", 422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "messages", 2, "assistant", "tool_calls", 0, "name"], "msg": "Extra inputs are not permitted", "input": None}]}, HERE, True, "zeroclaw-labs/zeroclaw#3572"),
    ("mistral", 400, _mistral("json_schema: property 'maxItems' is not supported"), HERE, True, "code"),
    ("mistral", 400, _mistral("reasoning_effort 'medium' is not supported for this model. Supported values: ['low', 'high', 'max']"), HERE, True, "mistralai/mistral-vibe#1117"),
    ("mistral", 400, _mistral("Reasoning prompt mode is not enabled for this model"), HERE, True, "code"),
    ("mistral", 400, _mistral("Image content is not supported by this model"), HERE, True, "code"),
    ("mistral", 400, _mistral("Function calling is not enabled for this model", code="3051"), HERE, True, "code"),
    ("mistral", 400, _mistral("Unexpected role 'user' after role 'tool'", "invalid_request_message_order", "3230"), WRONG, False, "datapizza-labs/datapizza-ai#98"),
    ("mistral", 400, _mistral("Unexpected role RoleEnum.tool"), WRONG, False, "mistralai/mistral-inference#135"),
    ("mistral", 400, _mistral("Tool call id was call_search but must be a-z, A-Z, 0-9, with a length of 9."), WRONG, False, "BibekBhusal0/zen-custom-js#7"),
    ("mistral", 400, _mistral("Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant", "invalid_request_message_order", "3230"), WRONG, False, "code"),
    ("mistral", 400, _mistral("Not the same number of function calls and responses", "invalid_request_message_order", "3230"), WRONG, False, "code"),
    ("mistral", 400, _mistral("Assistant message must have either content or tool_calls, but not none.", "invalid_request_assistant_message", "3240"), WRONG, False, "code"),
    ("mistral", 422, {"object": "error", "message": {"detail": [{"type": "missing", "loc": ["body", "messages"], "msg": "Field required", "input": {}}]}, "type": "invalid_request_error"}, WRONG, False, "code"),
    ("deepseek", 400, _error("deepseek-reasoner does not support successive user or assistant messages (messages[0] and messages[1] in your input). You should interleave the user/assistant messages in the message sequence.", code="invalid_request_error"), HERE, True, "xerrors/Yuxi#126"),
    ("deepseek", 400, _error("Missing `reasoning_content` field in the assistant message at message index 2. For more information, please refer to the thinking mode page.", code="invalid_request_error"), HERE, True, "hotovo/aider-desk#529"),
    ("deepseek", 400, _error("Prompt must contain the word 'json' in some form to use 'response_format' of type 'json_object'.", code="invalid_request_error"), HERE, True, "code"),
    ("deepseek", 400, _error("This response_format type is unavailable now", code="invalid_request_error"), HERE, True, "code"),
    ("deepseek", 400, _error("Failed to deserialize the JSON body into the target type: messages[0]: unknown variant `image_url`, expected `text` at line 1 column 200", code="invalid_request_error"), HERE, True, "code"),
    ("deepseek", 400, _error("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", code="invalid_request_error"), HERE, True, "code"),
    ("deepseek", 400, _error("Messages with role 'tool' must be a response to a preceding message with 'tool_calls'", code="invalid_request_error"), WRONG, False, "qwersyk/Newelle#425"),
    ("deepseek", 422, _error("Failed to deserialize the JSON body into the target type: messages[1]: missing field `content` at line 1 column 90", code="invalid_request_error"), WRONG, False, "code"),
    ("cohere", 422, {"id": "ce11", "message": "unrecognized tool choice option 'any'. For proper usage, please refer to the API reference"}, HERE, True, "langchain-ai/langchain-cohere#161"),
    ("cohere", 400, {"message": "invalid request: cannot specify both message and tool_results in multistep mode"}, HERE, True, "huggingface/chat-ui#1404"),
    ("cohere", 400, {"message": "tools are not supported for model 'command'"}, HERE, True, "deepset-ai/haystack-core-integrations#656"),
    ("cohere", 400, {"message": "invalid request: message must be at least 1 token long or tool results must be specified."}, WRONG, False, "yym68686/uni-api#6"),
    ("perplexity", 400, {"error": {"message": "[\"At body -> messages -> 0 -> content: Field required\", \"At body -> messages -> 1 -> role: Input should be 'system', 'user' or 'assistant'\"]", "type": "bad_request", "code": 400}}, WRONG, False, "BerriAI/litellm#11665"),
    ("perplexity", 400, {"error": {"message": "Last message must have role `user`.", "type": "invalid_message", "code": 400}}, WRONG, False, "code"),
    ("perplexity", 400, {"error": {"message": "Tool calling is not supported for this model", "type": "bad_request", "code": 400}}, HERE, True, "code"),
    ("perplexity", 400, {"error": {"message": "After the (optional) system message(s), user or tool message(s) should alternate with assistant message(s).", "type": "invalid_message", "code": 400}}, WRONG, False, "code"),
)  # fmt: skip

SERVERS = _rows(
    ("vllm", 400, _vllm("\"auto\" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set"), HERE, True, "vllm-project/vllm#9986"),
    ("openai_compatible", 400, {"error": {"message": "\"auto\" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set", "type": "BadRequestError", "param": None, "code": 400}}, HERE, True, "hidenobunagai/nvidia-nim-provider#2"),
    ("vllm", 400, _vllm("The provided JSON schema contains features not supported by xgrammar."), HERE, True, "vllm-project/vllm#16321"),
    ("vllm", 400, _vllm("/models/glm-5/ is not a multimodal model"), HERE, True, "code"),
    ("vllm", 400, _vllm("At most 1 image(s) may be provided in one request."), HERE, True, "code"),
    ("vllm", 400, _vllm("[{'type': 'extra_forbidden', 'loc': ('body', 'functions'), 'msg': 'Extra inputs are not permitted'}]"), HERE, True, "runpod-workers/worker-vllm#85"),
    ("vllm", 400, _vllm("1 validation error for ChatCompletionRequest\nfunctions\n  Extra inputs are not permitted [type=extra_forbidden]"), HERE, True, "runpod-workers/worker-vllm#85"),
    ("vllm", 400, _vllm("Conversation roles must alternate user/assistant/user/assistant/..."), WRONG, False, "code"),
    ("vllm", 400, _vllm("As of transformers v4.44, default chat template is no longer allowed, so you must provide a chat template if the tokenizer does not define one."), HERE, True, "code"),
    ("vllm", 400, _vllm("[{'type': 'missing', 'loc': ('body', 'messages'), 'msg': 'Field required', 'input': {}}]"), WRONG, False, "code"),
    ("openai_compatible", 400, {"object": "error", "message": "1 validation error:\n  {'type': 'literal_error', 'loc': ('body', 'reasoning_effort'), 'msg': \"Input should be 'low', 'medium' or 'high'\", 'input': 'xhigh'}", "type": "Bad Request", "param": None, "code": 400}, HERE, True, "router-for-me/CLIProxyAPI#1572"),
    ("openai_compatible", 400, {"detail": "Invalid request: Validation error for `reasoning_effort`: expected one of 'low' | 'medium' | 'high', received 'xhigh'."}, HERE, True, "router-for-me/CLIProxyAPI#1307"),
    ("openai_compatible", 400, {"error": {"message": "level \"max\" not supported, valid levels: low, medium, high, xhigh"}}, HERE, True, "nguyenphutrong/quotio#287"),
    ("openai_compatible", 400, {"message": "Validation: Unsupported parameter(s): `tool_stream`", "type": "Bad Request", "code": 400}, HERE, True, "Gitlawb/openclaude#1950"),
    ("openai_compatible", 400, {"message": "Validation: Unsupported parameter(s): reasoning_budget", "type": "Bad Request", "code": 400}, HERE, True, "Alishahryar1/free-claude-code#127"),
    ("openai_compatible", 400, {"message": "Validation: Unsupported parameter(s): `prompt_cache_key`", "type": "Bad Request", "code": 400}, HERE, True, "MoonshotAI/kimi-cli#2534"),
    ("openai_compatible", 400, {"error": {"message": "invalid temperature: only 1 is allowed for this model", "type": "invalid_request_error"}}, HERE, True, "Narcooo/inkos#174"),
    ("openai_compatible", 400, {"error": {"message": "invalid temperature: only 0.6 is allowed for this model", "type": "invalid_request_error"}}, HERE, True, "MoonshotAI/kimi-code#686"),
    ("openai_compatible", 400, {"error": {"message": "tool_choice 'required' is incompatible with thinking enabled", "type": "invalid_request_error"}}, HERE, True, "code"),
    ("openai_compatible", 400, _error("<400> InternalError.Algo.InvalidParameter: The tool_choice parameter does not support being set to required or object in thinking mode", code="invalid_parameter_error"), HERE, True, "code"),
    ("openai_compatible", 400, _error("parameter.enable_thinking must be set to false for non-streaming calls", code="invalid_parameter_error"), HERE, True, "code"),
    ("openai_compatible", 400, {"detail": "Stream must be set to true"}, HERE, True, "code"),
    ("openai_compatible", 400, _error("image input is not supported", param="messages[0].content[1].image_url", code="unsupported_image"), HERE, True, "code"),
    ("openai_compatible", 400, _error("Model does not support images. Please use a model that does."), HERE, True, "lmstudio-ai/lmstudio-bug-tracker#362"),
    ("openai_compatible", 400, {"error": "'response_format.type' must be 'json_schema' or 'text'"}, HERE, True, "code"),
    ("openai_compatible", 400, {"message": "litellm.UnsupportedParamsError: openai does not support parameters: ['reasoning_effort'], for model=deepseek-v4. To drop these, set `litellm.drop_params=True`", "code": 400}, HERE, True, "BerriAI/litellm#10124"),
    ("openai_compatible", 416, {"error": "max_completion_tokens is limited for this model"}, WRONG, False, "scaleway/docs-content#4858"),
    ("fireworks", 400, {"error": {"object": "error", "type": "invalid_request_error", "message": "Cannot preprocess image len(combined_imgs) = 1, len(image_ranges) = 0, please provide valid images"}}, WRONG, False, "machine-theory/lm-council#14"),
    ("fireworks", 400, {"error": {"object": "error", "type": "invalid_request_error", "message": "Extra inputs are not permitted, field: 'reasoning'"}}, HERE, True, "code"),
    ("together", 400, {"error": {"message": "Unable to access non-serverless model nim/nvidia/llama-3.3. Please create and start a new dedicated endpoint for the model.", "type": "invalid_request_error", "param": None, "code": "model_not_available"}}, C.MODEL_NOT_FOUND, True, "HeyPuter/puter#3168"),
    ("ollama", 400, {"error": {"message": "registry.ollama.ai/library/x:latest does not support tools", "type": "api_error", "param": None, "code": None}}, HERE, True, "ollama/ollama:server/images.go"),
    ("ollama_native", 400, {"error": "\"gemma3:4b\" does not support thinking"}, HERE, True, "ollama/ollama:server/routes.go"),
    ("ollama_native", 400, {"error": "this model only supports one image while more than one image requested"}, HERE, True, "ollama/ollama:server/routes.go"),
    ("ollama_native", 400, {"error": "registry.ollama.ai/library/x does not support vision"}, HERE, True, "ollama/ollama:server/images.go"),
    ("ollama_native", 400, {"error": "unsupported Qwen3.8 reasoning effort \"max\""}, HERE, True, "ollama/ollama:model/renderers"),
    ("ollama_native", 400, {"error": "image generation models are not currently supported"}, HERE, True, "ollama/ollama:server/routes.go"),
    ("ollama_native", 400, {"error": "raw mode does not support template, system, or context"}, HERE, True, "ollama/ollama:server/routes.go"),
    ("ollama_native", 400, {"error": "missing request body"}, WRONG, False, "ollama/ollama:server/routes.go"),
    ("ollama_native", 400, {"error": "invalid base64 image data: illegal base64 data at input byte 4"}, WRONG, False, "ollama/ollama:openai"),
    ("ollama_native", 400, {"error": "option \"temperature\" must be of type float32"}, WRONG, False, "ollama/ollama:api/types.go"),
    ("llamacpp", 500, {"error": {"code": 500, "message": "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj", "type": "server_error"}}, HERE, True, "lemonade-sdk/lemonade#539"),
    ("llamacpp", 500, {"error": {"code": 500, "message": "tools param requires --jinja flag", "type": "server_error"}}, HERE, True, "code"),
    ("llamacpp", 501, {"error": {"code": 501, "message": "This server does not support completions.", "type": "not_supported_error"}}, HERE, True, "code"),
    ("huggingface", 422, {"error": "Input validation error: grammar is not supported", "error_type": "validation"}, HERE, True, "huggingface/text-generation-inference:router/src/validation.rs"),
    ("huggingface", 422, {"error": "Input validation error: `stop` supports up to 4 stop sequences. Given: 6", "error_type": "validation"}, HERE, True, "huggingface/text-generation-inference:router/src/validation.rs"),
    ("huggingface", 422, {"error": "Input validation error: image modality is not supported", "error_type": "validation"}, HERE, True, "huggingface/text-generation-inference:router/src/validation.rs"),
    ("huggingface", 422, {"error": "Input validation error: `best_of` != 1 is not allowed for this endpoint", "error_type": "validation"}, HERE, True, "huggingface/text-generation-inference:router/src/validation.rs"),
    ("huggingface", 422, {"error": "Input validation error: `max_new_tokens` must be <= 4096. Given: 8000", "error_type": "validation"}, HERE, True, "huggingface/text-generation-inference:router/src/validation.rs"),
    ("huggingface", 422, {"error": "Input validation error: `inputs` cannot be empty", "error_type": "validation"}, WRONG, False, "huggingface/text-generation-inference:router/src/validation.rs"),
    ("huggingface", 422, {"error": "Input validation error: base64 encoding is invalid: Invalid byte 45", "error_type": "validation"}, WRONG, False, "huggingface/text-generation-inference:router/src/validation.rs"),
    ("huggingface", 422, {"error": "Input validation error: `temperature` must be strictly positive", "error_type": "validation"}, WRONG, False, "huggingface/text-generation-inference:router/src/validation.rs"),
)  # fmt: skip

#: Collected when the rules stood, read before they were tried, and measured once as they were.
LATER = _rows(
    ("anthropic", 400, _anthropic("tools.12.custom.name: String should have at most 128 characters"), WRONG, False, "code"),
    ("anthropic", 400, _anthropic("tools.0.custom: For 'object' type, 'additionalProperties: true' is not supported. Please set 'additionalProperties' to false"), HERE, True, "code"),
    ("anthropic", 400, _anthropic("tools.0: Input tag 'function' found using 'type' does not match any of the expected tags: 'bash_20250124', 'custom', 'text_editor_20250124'"), WRONG, False, "code"),
    ("anthropic", 400, _anthropic("tools.0.custom.input_schema.properties: Property keys should match pattern '^[a-zA-Z0-9_.-]{1,64}$'"), WRONG, False, "code"),
    ("anthropic", 400, _anthropic("tool_choice: type \"tool\" and \"any\" are not supported for this model."), HERE, True, "code"),
    ("anthropic", 400, _anthropic("claude-sonnet-5-5 requires adaptive thinking or thinking.type=between_tools"), HERE, True, "code"),
    ("anthropic", 400, _anthropic("Could not process image"), WRONG, False, "code"),
    ("gemini", 400, _google("* GenerateContentRequest.tools[0].function_declarations[1].parameters.properties[batch].items: missing field."), WRONG, False, "code"),
    ("gemini", 400, _google("Please ensure that function response turn comes immediately after a function call turn."), WRONG, False, "code"),
    ("gemini", 400, _google("Please enable tool_config.include_server_side_tool_invocations to use Built-in tools with Function calling."), HERE, True, "code"),
    ("vertex", 400, _google("Unable to submit request because controlled generation is not supported with Search tool. Learn more in the docs."), HERE, True, "code"),
    ("gemini", 400, _google("Thinking level MINIMAL is not supported for this model."), HERE, True, "code"),
    ("gemini", 400, _google("Thinking budget is not supported for this model."), HERE, True, "code"),
    ("gemini", 400, _google("Request contains an invalid argument."), WRONG, False, "code"),
    ("openrouter", 400, _wrapped({"error": {"code": 400, "message": "GenerateContentRequest.tools[0].function_declarations[2].parameters.properties[section].enum[0]: cannot be empty\n", "status": "INVALID_ARGUMENT"}}, "Google AI Studio"), WRONG, False, "code"),
    ("groq", 400, _error("'response_format.type' : value is not one of the allowed values ['text','json_object']"), HERE, True, "openai/openai-agents-python:docs"),
    ("groq", 400, _error("`max_tokens` must be less than or equal to `512`, the maximum value for `max_tokens` is less than the `context_window` for this model", param="max_tokens"), HERE, True, "code"),
    ("mistral", 422, {"object": "error", "message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted", "input": 5}]}, "type": "invalid_request_error"}, HERE, True, "code"),
    ("mistral", 422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]}, HERE, True, "code"),
    ("azure_ai", 422, {"error": {"message": "azure-ai error: {\"detail\":[{\"type\":\"extra_forbidden\",\"loc\":[\"body\",\"stream_options\",\"include_usage\"],\"msg\":\"Extra inputs are not permitted\"}]}", "code": "Invalid input"}, "provider": "azure-ai"}, HERE, True, "code"),
    ("mistral", 403, {"object": "error", "message": "This model is not available in your subscription tier", "type": "tier_not_allowed", "param": None, "code": "1910", "raw_status_code": 403}, C.MODEL_NOT_FOUND, True, "code"),
    ("openai_compatible", 422, {"detail": {"error": ["Value error, message content must not be an empty string"]}}, WRONG, False, "code"),
    ("openai_compatible", 422, {"detail": [{"type": "literal_error", "loc": ["body", "reasoning_effort"], "msg": "Input should be 'low', 'medium' or 'high'", "input": "none"}]}, HERE, True, "code"),
    ("bedrock", 400, _bedrock("The model returned the following errors: thread_id: Extra inputs are not permitted"), HERE, True, "code"),
    ("bedrock", 400, _bedrock("The model returned the following errors: {\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"`temperature` is deprecated for this model.\"}}"), HERE, True, "code"),
    ("bedrock", 400, _bedrock("The model returned the following errors: messages.90: Did not find 6 tool_result block(s) at the beginning of this message. Messages following tool_use blocks must begin with a matching number of tool_result blocks."), WRONG, False, "code"),
    ("bedrock", 400, _bedrock("This model doesn't support the s3Uri field. Remove s3Uri and try again."), HERE, True, "code"),
    ("bedrock", 400, _bedrock("This model doesn't support the status field. Remove status and try again."), HERE, True, "code"),
    ("openrouter", 422, _wrapped({"message": "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. The following tool_call_ids did not have response messages: call_1"}, "Cohere", 422), WRONG, False, "code"),
    ("vllm", 400, {"object": "error", "message": "Requested input length 132490 exceeds maximum input length 32767", "type": "BadRequestError", "param": None, "code": 400}, C.CONTEXT_TOO_LONG, True, "code"),
    ("openai_compatible", 400, _error("thinking is enabled but reasoning_content is missing in assistant tool call message at index 4"), HERE, True, "code"),
    ("deepseek", 400, _error("Thinking mode does not support this tool_choice", code="invalid_request_error"), HERE, True, "code"),
    ("deepseek", 400, _error("completions api is only available when using beta api (set base_url to the beta address)", code="invalid_request_error"), HERE, True, "code"),
    ("openai", 400, _error("Invalid 'messages[3].name': string does not match pattern. Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'.", param="messages[3].name", code="invalid_value"), WRONG, False, "code"),
    ("openai_responses", 400, _error("Unknown parameter: 'input[2].status'.", param="input[2].status", code="unknown_parameter"), HERE, True, "code"),
    ("openai_responses", 400, _error("Missing required parameter: 'input[5].name'.", param="input[5].name", code="missing_required_parameter"), WRONG, False, "code"),
    ("openai_responses", 400, _error("Invalid 'input[0].content[1].image_url'. Expected a valid URL, but got a value with an invalid format.", param="input[0].content[1].image_url", code="invalid_value"), WRONG, False, "code"),
    ("openai_responses", 400, _error("Invalid 'input[4].call_id': string too long.", param="input[4].call_id", code="string_above_max_length"), WRONG, False, "code"),
    ("openai", 400, _error("Unknown parameter: response_format", param="response_format", code="unknown_parameter"), HERE, True, "code"),
    ("openai_compatible", 400, _error("Invalid 'messages[0].content': multimodal content is not accepted"), HERE, True, "code"),
    ("openai_compatible", 400, _error("`reasoning_effort` is not supported with this model", code="unknown_parameter"), HERE, True, "code"),
    ("openai_compatible", 400, _error("Assistant tool call arguments must be valid JSON"), WRONG, False, "code"),
    ("xai", 400, {"code": "invalid-argument", "error": "Invalid tool schema"}, WRONG, False, "code"),
)  # fmt: skip

#: The same once more, after the rules had been changed for those; other classes that stand nearest are among them.
LAST = _rows(
    ("openrouter", 400, _wrapped({"error": {"code": "400", "message": "Param Incorrect", "param": "messages[32] assistant must provide content or tool_calls"}}, "Xiaomi"), WRONG, False, "code"),
    ("deepseek", 400, _error("The supported API model names are deepseek-v4-pro or deepseek-v4-flash, but you passed x.", code="invalid_request_error"), C.MODEL_NOT_FOUND, True, "code"),
    ("openai_compatible", 400, {"type": "error", "error": {"type": "bad_request_error", "message": "invalid params, unknown model 'deepseek-v4-flash' (2013)"}}, C.MODEL_NOT_FOUND, True, "code"),
    ("openai_compatible", 400, {"request_id": "232c", "code": "InvalidParameter", "message": "Unsupported model: 'kimi-k2.6'."}, C.MODEL_NOT_FOUND, True, "code"),
    ("anthropic", 400, _anthropic("messages.4.content.0: unexpected `tool_use` block"), WRONG, False, "code"),
    ("openai_compatible", 400, {"error": {"message": "invalid request body", "code": "invalid_request_body"}}, WRONG, False, "code"),
    ("openai_compatible", 400, {"details": {"_errors": ["Unrecognized key(s) in object: 'web_search_options'"]}, "error": "Invalid request parameters"}, HERE, True, "code"),
    ("anthropic", 400, _anthropic("messages.1.provider_specific_fields: Extra inputs are not permitted"), HERE, True, "code"),
    ("gemini", 400, _google("Requests ending with a model turn are not supported."), HERE, True, "code"),
    ("gemini", 403, _google("Your project has been denied access. Please contact support.", status="PERMISSION_DENIED", code=403), C.AUTHENTICATION, True, "code"),
    ("gemini", 400, _google("The referenced name `#/components/schemas/ValidationError` in function_response.response does not match to a display_name in the function_response.parts."), WRONG, False, "code"),
    ("groq", 400, _error("'max_tokens' must be less than or equal to '32768'", param="max_tokens"), HERE, True, "code"),
    ("bedrock", 400, _bedrock("This model doesn't support the toolConfig.toolChoice.tool field. Remove toolConfig.toolChoice.tool and try again."), HERE, True, "code"),
    ("bedrock", 400, _bedrock("The model returned the following errors: tool_choice: type \"tool\" and \"any\" are not supported for this model."), HERE, True, "code"),
    ("bedrock", 400, _bedrock("The model returned the following errors: output_config.format: Extra inputs are not permitted"), HERE, True, "code"),
    ("bedrock", 400, _bedrock("The model returned the following errors: This model does not support assistant message prefill. The conversation must end with a user message."), HERE, True, "code"),
    ("bedrock", 403, {"Message": "Invalid API Key format: Base64 decoding failed"}, C.AUTHENTICATION, True, "code"),
    ("openai_compatible", 400, {"error": {"message": "image_size must be of type string"}}, WRONG, False, "code"),
    ("openai_compatible", 400, {"error": {"message": "prompt token count of 154533 exceeds the limit of 128000", "code": "model_max_prompt_tokens_exceeded"}}, C.CONTEXT_TOO_LONG, True, "code"),
    ("openai_compatible", 400, _error("An assistant message with 'tool_calls' must be followed by tool messages. The following tool_call_ids did not have response messages: call_1"), WRONG, False, "code"),
    ("openai_compatible", 400, _error("Failed to parse the request body as JSON: encoding_format: expected value at line 1 column 9"), WRONG, False, "code"),
    ("groq", 403, {"error": {"message": "Forbidden"}}, C.AUTHENTICATION, True, "code"),
)  # fmt: skip

REFUSALS = [
    *OPENAI,
    *ANTHROPIC,
    *GOOGLE,
    *BEDROCK,
    *GROQ_AND_LIKE,
    *MISTRAL_DEEPSEEK_COHERE,
    *SERVERS,
    *LATER,
]
