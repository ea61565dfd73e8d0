"""Analytics: the ledger of every attempt and what can be read from it."""
