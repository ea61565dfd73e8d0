"""Budgets: which money limits pay for a request, how far each is used, and what follows from its thresholds."""
