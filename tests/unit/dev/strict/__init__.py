"""The rules of the simulator's strict mode."""
