"""Between OpenAI's JSON and the router client's values. No I/O, no clock, no randomness."""
