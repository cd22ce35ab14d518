"""`python -m validators`."""

from __future__ import annotations

from validators.cli import main

if __name__ == "__main__":
    main()
