"""What faces HTTP: OpenAI's API as the second door of the router. The pure translations are in `openai`."""
