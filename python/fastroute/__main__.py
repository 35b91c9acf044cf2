"""``python -m fastroute`` is the command ``fastroute``."""

from fastroute.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
