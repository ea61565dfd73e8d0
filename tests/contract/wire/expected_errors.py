"""The meaning of each recorded error, read by a person from its status, headers and body, one by one.

id: (class, whether the same model may be asked again, seconds to wait, why where it is not plain)
"""

from __future__ import annotations

from libs.types import ErrorClass

BAD = (ErrorClass.INVALID_REQUEST, False, None)
#: This model does not have it; others do.
HERE = (ErrorClass.UNSUPPORTED_HERE, False, None)
KEY = (ErrorClass.AUTHENTICATION, False, None)
LONG = (ErrorClass.CONTEXT_TOO_LONG, False, None)
GONE = (ErrorClass.MODEL_NOT_FOUND, False, None)
BUSY = (ErrorClass.OVERLOADED, True, None)
FAULT = (ErrorClass.SERVER_ERROR, True, None)
#: The model's own output was unusable; the request was in order.
DRAW = (ErrorClass.MALFORMED, True, None)

EXPECTED: dict[str, tuple[ErrorClass, bool, float | None]] = {
    # Anthropic: input of a wrong shape.
    "c3b5c36b7704f59f": BAD,
    "8b12a075f1cbebc0": BAD,
    "0256349f05604a16": BAD,
    "6e02886ec57fa021": BAD,
    "6d66bc3b77c8bb4d": BAD,
    # Anthropic: invalid x-api-key; unknown model.
    "6ff89862aa31c1f2": KEY,
    "799ff6f3e4ba6624": KEY,
    "3daf487929d28ed4": GONE,
    # Anthropic: nothing of the minute's limit was used, yet the request exceeds it: x-should-retry is false.
    "854f9bb925bd043c": (ErrorClass.RATE_LIMITED, False, None),
    # Anthropic: retry-after 65 and 8.
    "7547ebc768f0cdd9": (ErrorClass.RATE_LIMITED, True, 65.0),
    "cd24276d8f1022d9": (ErrorClass.RATE_LIMITED, True, 8.0),
    # Anthropic: api_error with x-should-retry false.
    "bc9b05cdf97d038e": (ErrorClass.SERVER_ERROR, False, None),
    # Anthropic: overloaded_error.
    "73be50a7ef40143e": BUSY,
    "e8c017e90912103e": BUSY,
    "0b8351896b40b9a2": BUSY,
    "0be79b2e1fcdbe25": BUSY,
    "b70b133352bfaa16": BUSY,
    # Azure: no such resource, which is what a wrong deployment gives.
    "c12c7cc2d9341015": GONE,
    "2c8db27abad92de7": GONE,
    "1dbea54c35e2b5a0": FAULT,
    # Cerebras: retry-after-ms 660.
    "b67d1c84abad2254": (ErrorClass.RATE_LIMITED, True, 0.66),
    "fe8a5d17f75da690": KEY,
    # Cohere: the model was removed.
    "5095c5f9caabeb14": GONE,
    "a77d0f4f6c86e1d1": GONE,
    # DeepSeek: maximum context length; invalid key.
    "e903f4cd1fd5a5f5": LONG,
    "d6aa36a8a3ec4b7a": LONG,
    "51e14187b36c159d": KEY,
    "68c64973579449c9": KEY,
    # Gemini: the model is not found; internal; overloaded.
    "a75e41b6679131bd": GONE,
    "d6d9c0b202b24034": GONE,
    "6f7ad92ce091bdc9": FAULT,
    "ecd8bd842d36d808": BUSY,
    # Groq: tool_use_failed; then retry-after 3.
    "958336442e40dcf4": DRAW,
    "eb538b11192ee081": DRAW,
    "de2f72d48e38fc06": DRAW,
    "06f0dfbfe6c15f6a": (ErrorClass.RATE_LIMITED, True, 3.0),
    "4e26c53ca2090d02": (ErrorClass.RATE_LIMITED, True, 3.0),
    # Mistral: an image for a model without vision.
    "67dca99d9459ff2c": HERE,
    # OpenAI: a token number out of range; context; models that do not exist; wrong values and types.
    "ae5fe9bcc9e295c1": BAD,
    "c7bceb3336e75da8": LONG,
    "dc840775740d5965": LONG,
    "703bc85a0c10fa79": GONE,
    "0d3cb718ad61148a": BAD,
    "c28226a1af0d0911": BAD,
    "814c18d83c33ea28": BAD,
    "8bfbe121fea9dcc0": HERE,
    "3c4256d71510eadd": HERE,
    "db01ff20e373fa3b": BAD,
    "ebfe463f21296d66": BAD,
    # A file of a type that this vendor does not read: others do.
    "98e447b258787b4e": HERE,
    "8ccd137230a0bf25": HERE,
    "881e45954d12ccc4": LONG,
    "272a3d48f514829d": GONE,
    "0618aa4b2f24a61c": GONE,
    "156a0923983f17ae": HERE,
    "ae2c99f288814e11": HERE,
    "6cb994f2cd0e6423": HERE,
    "c3ea293d9ffa6df6": HERE,
    # OpenAI: incorrect key.
    "98390aac7bb3dbce": KEY,
    "38fe5710a0663389": KEY,
    "61a6ea848111d79b": KEY,
    # OpenRouter: OpenAI's "unsupported value", wrapped.
    "eb9f5ac29ee74fb2": HERE,
    "6872cf06898e19a1": HERE,
    # Vertex: temperature out of range; no token or a wrong one; exhausted for now.
    "5a4ce02e65f40ae1": BAD,
    "c531a7b57a11d081": KEY,
    "8b0b7f4a7d43b36f": KEY,
    "ff9b59aee79f8252": KEY,
    "fe09574c3b048052": (ErrorClass.RATE_LIMITED, True, None),
    # xAI: an incorrect key as a 400.
    "be4143e4ca7bdd4e": KEY,
    "4903dd21a96d3b96": KEY,
    # Z.ai: overload as a 429.
    "2411ee1ef4cbf339": BUSY,
    # Fireworks: "Too Many Requests", the error a string beside the message.
    "6f3e0a4d50479724": (ErrorClass.RATE_LIMITED, True, None),
}

#: Errors inside a 200's stream, whatever set the recording is filed under.
INSIDE: dict[str, tuple[ErrorClass, bool, float | None]] = {
    "319a9b962fb04e7d": BUSY,
    "aa8c02a9a885a885": DRAW,
    "75758ecc571a4fc5": DRAW,
}
