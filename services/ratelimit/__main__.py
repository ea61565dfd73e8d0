"""`python -m services.ratelimit`."""

from services.ratelimit.bootstrap import main

if __name__ == "__main__":
    raise SystemExit(main())
