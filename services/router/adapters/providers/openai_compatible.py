"""The dialects of chat completions that differ in fields only. Whoever differs in more has a file.

Read from each vendor's API reference; what a vendor ignores is sent, what it refuses is not.
"""

from __future__ import annotations

from services.router.adapters.providers.openai_chat import Dialect

OPENAI = Dialect(max_tokens="max_completion_tokens", cache_key=True)
#: Any other server that speaks the wire.
PLAIN = Dialect()
GROQ = Dialect(max_tokens="max_completion_tokens")
#: Refuses unknown fields; always reports usage.
MISTRAL = Dialect(
    seed="random_seed",
    required="any",
    stream_options=False,
    prefill_fields={"prefix": True},
    reasoning="effort",
)
#: Reasoning tokens stand beside completion tokens.
XAI = Dialect(max_tokens="max_completion_tokens", reasoning_apart=True)
OPENROUTER = Dialect(reasoning="object", extra={"usage": {"include": True}})
TOGETHER = Dialect()
CEREBRAS = Dialect(max_tokens="max_completion_tokens", penalties=False)
#: Reasoning and citations are billed beside completion tokens; no stream options, tools or seeds.
PERPLEXITY = Dialect(stream_options=False, seed="", reasoning_apart=True)
FIREWORKS = Dialect()
OLLAMA = Dialect()
#: Goes on from an unfinished assistant message only when told so.
VLLM = Dialect(prefill_body={"continue_final_message": True, "add_generation_prompt": False})
LLAMACPP = Dialect()
HUGGINGFACE = Dialect()
ZAI = Dialect(seed="", json_schema=False, reasoning="")
SNOWFLAKE = Dialect(max_tokens="max_completion_tokens")
WRITER = Dialect(path="/chat", seed="", reasoning="")
