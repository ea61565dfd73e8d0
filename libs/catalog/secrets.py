"""Provider keys, read from the environment or a file at the moment of use, never kept in the catalog, never shown."""

from __future__ import annotations

import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Mapping

from libs.catalog.model import Provider
from libs.catalog.redaction import forms_of, redact

#: The largest key file that is read, in bytes; a service account's JSON is 2 to 3 KiB.
MAX_BYTES = 64 * 1024
#: The most keys that are remembered, those read last: all that are used, and what they replaced.
MOST_REMEMBERED = 1024


class Keys:
    """Finds keys, and redacts them in what others write. A file's stamp is read with every lookup, and its content
    when it has changed (Kubernetes swaps secrets in place), so a new key is used by the next call. `environ` None:
    the process's environment, read at each call."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = os.environ if environ is None else environ
        self._files: dict[str, tuple[tuple[int, int, int, int], str]] = {}
        #: Every key that was read, with its version and the forms to redact.
        self._remembered: OrderedDict[str, tuple[str, tuple[str, ...]]] = OrderedDict()

    def __call__(self, provider: Provider) -> str | None:
        """Returns the provider's key; empty where it takes none, None where it is missing (`why_missing` says
        why)."""
        try:
            return self._read(provider)
        except ValueError:
            return None

    def version(self, provider: Provider) -> str:
        """Returns twelve characters that change when the key does, and say nothing about it: what was learned under
        another version was learned about another key. Empty where there is none. Safe to log, store and send."""
        key = self(provider)
        return self._remembered[key][0] if key else ""

    def redact(self, text: str) -> str:
        """Returns the text without any key that was ever read here, in whatever usual encoding."""
        return redact(text, (form for _, forms in self._remembered.values() for form in forms))

    def why_missing(self, provider: Provider) -> str | None:
        """Returns a sentence naming the variable or file, never its content; None: the key is there, or none is
        needed."""
        try:
            self._read(provider)
        except ValueError as error:
            return str(error)
        return None

    def _read(self, provider: Provider) -> str:
        key = self._find(provider)
        if key and key not in self._remembered:
            self._remember(key)
        return key

    def _remember(self, key: str) -> None:
        # A digest of 48 bits of a secret that nobody can guess.
        version = hashlib.blake2b(key.encode(), digest_size=6, person=b"key version").hexdigest()
        self._remembered[key] = (version, forms_of(key))
        if len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)

    def _find(self, provider: Provider) -> str:
        if provider.api_key_env:
            value = self._environ.get(provider.api_key_env, "").strip()
            return _checked(value, f"the environment variable {provider.api_key_env}", "is not set")
        if provider.api_key_file:
            return self._from_file(provider.api_key_file)
        return ""

    def _from_file(self, path: str) -> str:
        name = f"the key file {path}"
        try:
            status = os.stat(path)
            stamp = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
            known = self._files.get(path)
            if known is None or known[0] != stamp:
                if status.st_size > MAX_BYTES:
                    raise ValueError(f"{name} is larger than {MAX_BYTES // 1024} KiB")
                with open(path, encoding="utf-8") as file:
                    known = self._files[path] = (stamp, file.read(MAX_BYTES).strip())
        except UnicodeDecodeError:
            raise ValueError(f"{name} is not text") from None
        except OSError as error:
            raise ValueError(f"{name} cannot be read: {error.strerror}") from None
        return _checked(known[1], name, "is empty")


def _checked(key: str, name: str, absent: str) -> str:
    if not key:
        raise ValueError(f"{name} {absent}")
    # Keys go into HTTP headers; only a service account's JSON, which is signed with and never sent, has
    # lines.
    if not (key.isascii() and key.isprintable()) and not _is_document(key):
        raise ValueError(f"{name} holds characters that no key has")
    return key


def _is_document(key: str) -> bool:
    try:
        return isinstance(json.loads(key), dict)
    except (ValueError, RecursionError):
        return False
