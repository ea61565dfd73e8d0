"""`python -m services.analytics`"""

from services.analytics.bootstrap import main

if __name__ == "__main__":
    raise SystemExit(main())
