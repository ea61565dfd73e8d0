"""One provider wire, one file; its quirks never leave it."""
