"""`python -m slight_py` is `slight-py`."""

from slight_py.cli import main

if __name__ == "__main__":
    main()
