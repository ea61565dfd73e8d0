"""Pure resilience policies: no I/O, no clock, no randomness except as parameters."""
