"""`python -m tutorial_lib`, or `tutorial-lib`: the command line."""


def main() -> int:
    """Run one command; Ctrl-C while PyTorch is still being loaded says nothing, and ends."""
    try:
        from tutorial_lib import cli
        from tutorial_lib.engine import stopping
    except KeyboardInterrupt:
        return 130
    try:
        return stopping.end(cli.main())
    except SystemExit as leaving:
        if isinstance(leaving.code, int):
            stopping.end(leaving.code)
        raise


if __name__ == "__main__":
    raise SystemExit(main())
