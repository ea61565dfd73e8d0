"""Signatures of thinking: opaque to callers, checked when they come back, worth nothing at another vendor.

A signature names its vendor and the text that it was made for, so that any virtual provider can check it without
remembering what was said.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from binascii import Error


def sign(vendor: str, text: str) -> str:
    """Returns the vendor's signature of a text, in base64."""
    digest = hashlib.blake2b(text.encode(errors="replace"), digest_size=24).digest()
    return b64encode(b"simulated:" + vendor.encode() + b":" + digest).decode()


def is_of(vendor: str, signature: str) -> bool:
    """Returns True if the signature is the vendor's, of whatever text."""
    try:
        raw = b64decode(signature, validate=True)
    except (Error, ValueError):
        return False
    return raw.startswith(b"simulated:" + vendor.encode() + b":")


def signs(vendor: str, text: str, signature: str) -> bool:
    """Returns True if the signature is the vendor's, of this text."""
    return signature == sign(vendor, text)
