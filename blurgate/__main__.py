"""`python -m blurgate` is the command `blurgate`."""

from blurgate.cli import program

if __name__ == "__main__":
    program()
