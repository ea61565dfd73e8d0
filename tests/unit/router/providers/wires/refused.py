"""Requests that vendors still refuse: target → conversation → the strict rule that is broken. Only ever shorter."""

from __future__ import annotations

from collections.abc import Mapping

REFUSED: Mapping[str, Mapping[str, str]] = {
    "openai/gpt-4o": {
        "no effort": "effort of no reasoning model",
        "effort": "effort of no reasoning model",
        "effort and a temperature": "effort of no reasoning model",
        "effort and a forced tool": "effort of no reasoning model",
        "effort after a call": "effort of no reasoning model",
        "effort and a begun answer": "effort of no reasoning model",
        "little output and effort": "effort of no reasoning model",
    },
    "openai/gpt-5-mini": {
        "temperature": "temperature of a reasoning model",
        "high temperature": "temperature of a reasoning model",
        "temperature and top_p": "temperature of a reasoning model",
        "penalties": "field of no reasoning model",
        "high penalties": "field of no reasoning model",
        "no effort": "effort",
        "effort and a temperature": "temperature of a reasoning model",
    },
    "openai_responses/gpt-4o": {
        "no effort": "effort of no reasoning model",
        "effort": "effort of no reasoning model",
        "effort and a temperature": "effort of no reasoning model",
        "effort and a forced tool": "effort of no reasoning model",
        "effort after a call": "effort of no reasoning model",
        "little output and effort": "effort of no reasoning model",
    },
    "openai_responses/gpt-5-mini": {
        "temperature": "field of no reasoning model",
        "high temperature": "field of no reasoning model",
        "temperature and top_p": "field of no reasoning model",
        "effort and a temperature": "field of no reasoning model",
    },
    "azure_openai/gpt-4o": {
        "no effort": "effort of no reasoning model",
        "effort": "effort of no reasoning model",
        "effort and a temperature": "effort of no reasoning model",
        "effort and a forced tool": "effort of no reasoning model",
        "effort after a call": "effort of no reasoning model",
        "effort and a begun answer": "effort of no reasoning model",
        "little output and effort": "effort of no reasoning model",
    },
    "gemini/gemini-2.5-flash": {
        "penalties": "penalty",
        "high penalties": "penalty",
    },
    "gemini/gemini-2.5-pro": {
        "penalties": "penalty",
        "high penalties": "penalty",
        "no effort": "thinking turned off",
    },
    "gemini/gemini-3-pro-preview": {
        "penalties": "penalty",
        "high penalties": "penalty",
    },
    "vertex/gemini-2.5-flash": {
        "penalties": "penalty",
        "high penalties": "penalty",
    },
    "groq/llama-3.3-70b-versatile": {
        "no effort": "effort of no reasoning model",
        "effort": "effort of no reasoning model",
        "effort and a temperature": "effort of no reasoning model",
        "effort and a forced tool": "effort of no reasoning model",
        "effort after a call": "effort of no reasoning model",
        "effort and a begun answer": "effort of no reasoning model",
        "little output and effort": "effort of no reasoning model",
    },
    "xai/grok-4": {
        "penalties": "field of no reasoning model",
        "high penalties": "field of no reasoning model",
        "no effort": "effort",
        "effort": "effort",
        "effort and a temperature": "effort",
        "effort and a forced tool": "effort",
        "effort after a call": "effort",
        "effort and a begun answer": "effort",
        "little output and effort": "effort",
    },
}
