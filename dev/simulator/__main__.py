"""Runs `python -m dev.simulator`."""

from dev.simulator.server import main

if __name__ == "__main__":
    raise SystemExit(main())
