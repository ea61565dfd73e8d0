"""The ledger: one row per provider attempt, exactly once."""
