"""`python -m blurgate` is the command `blurgate`."""

from blurgate.cli import main

if __name__ == "__main__":
    main()
