"""`python -m services.router`."""

from services.router.bootstrap import main

if __name__ == "__main__":
    raise SystemExit(main())
