"""The kinds of providers and their defaults, so that catalog entries stay short."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """Defaults of one kind.

    `base_url`: what the vendor's own SDK calls its base URL, without a trailing slash; `{region}` stands for
    the provider's region; empty: the catalog must name one. `api_key_env`: the environment variable the
    vendor's SDK reads; empty: no key is sent unless the catalog names one. `prices`: provider id in
    genai-prices; empty: prices must be in the catalog. `free`: calls cost nothing (local servers).
    `lacks`: capabilities that its wire has no form for, whatever the model can.
    """

    base_url: str
    api_key_env: str = ""
    prices: str = ""
    free: bool = False
    #: Chat completions have no address of a document.
    lacks: tuple[str, ...] = ("pdf_url",)


_BYTES_ALONE = ("image_url", "pdf_url")
_IMAGES_ALONE = ("image_url", "pdf", "pdf_url")
KINDS: dict[str, Kind] = {
    "openai": Kind("https://api.openai.com/v1", "OPENAI_API_KEY", "openai"),
    # Others than OpenAI speak it too: the price list is found by the address.
    "openai_responses": Kind("https://api.openai.com/v1", "OPENAI_API_KEY", lacks=()),
    "anthropic": Kind("https://api.anthropic.com", "ANTHROPIC_API_KEY", "anthropic", lacks=()),
    "gemini": Kind("https://generativelanguage.googleapis.com", "GEMINI_API_KEY", "google", lacks=()),
    "azure_openai": Kind("", "AZURE_OPENAI_API_KEY", "azure"),
    "azure_responses": Kind("", "AZURE_OPENAI_API_KEY", "azure", lacks=()),
    "azure_ai": Kind("", "AZURE_AI_API_KEY", "azure"),
    "vertex": Kind("https://{region}-aiplatform.googleapis.com", "GOOGLE_ACCESS_TOKEN", "google", lacks=()),
    "bedrock": Kind(
        "https://bedrock-runtime.{region}.amazonaws.com",
        "AWS_BEARER_TOKEN_BEDROCK",
        "aws",
        lacks=_BYTES_ALONE,
    ),
    "bedrock_invoke": Kind(
        "https://bedrock-runtime.{region}.amazonaws.com", "AWS_BEARER_TOKEN_BEDROCK", "aws", lacks=()
    ),
    "mistral": Kind("https://api.mistral.ai/v1", "MISTRAL_API_KEY", "mistral", lacks=()),
    "cohere": Kind("https://api.cohere.com", "COHERE_API_KEY", "cohere", lacks=("pdf", "pdf_url")),
    "groq": Kind("https://api.groq.com/openai/v1", "GROQ_API_KEY", "groq"),
    "deepseek": Kind("https://api.deepseek.com", "DEEPSEEK_API_KEY", "deepseek"),
    "xai": Kind("https://api.x.ai/v1", "XAI_API_KEY", "x-ai"),
    "openrouter": Kind("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", "openrouter", lacks=()),
    "together": Kind("https://api.together.xyz/v1", "TOGETHER_API_KEY", "together"),
    "cerebras": Kind("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY", "cerebras"),
    "perplexity": Kind("https://api.perplexity.ai", "PERPLEXITY_API_KEY", "perplexity"),
    "fireworks": Kind("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY", "fireworks"),
    "zai": Kind("https://api.z.ai/api/paas/v4", "ZAI_API_KEY", "zai"),
    "huggingface": Kind("https://router.huggingface.co/v1", "HF_TOKEN"),
    "snowflake": Kind("", "SNOWFLAKE_TOKEN"),
    "writer": Kind("https://api.writer.com/v1", "WRITER_API_KEY"),
    "openai_compatible": Kind(""),
    "ollama": Kind("http://127.0.0.1:11434/v1", free=True, lacks=_IMAGES_ALONE),
    "ollama_native": Kind("http://127.0.0.1:11434", free=True, lacks=_IMAGES_ALONE),
    "vllm": Kind("http://127.0.0.1:8000/v1", free=True),
    "llamacpp": Kind("http://127.0.0.1:8080/v1", free=True),
}
