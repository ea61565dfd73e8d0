"""Programs that know only OpenAI, against the HTTP door of a real stack: `make test-clients`."""
