"""`python -m services.health`."""

from services.health.bootstrap import main

if __name__ == "__main__":
    raise SystemExit(main())
