"""`python -m tutorial_lib`: the command line."""

from tutorial_lib.cli import main

raise SystemExit(main())
