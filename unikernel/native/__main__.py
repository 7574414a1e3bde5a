"""`python -m unikernel.native [FILE]`: builds the kernel of native images, and says where it is, or copies it there."""

from __future__ import annotations

import shutil
import sys

from slight_py.errors import UsageError
from unikernel import native


def main(words: list[str]) -> int:
    try:
        path = native.kernel(lambda line: print(line, file=sys.stderr, flush=True))
    except UsageError as error:
        print(*error.lines, sep="\n", file=sys.stderr)
        return 2
    for place in words[:1]:
        shutil.copy(path, place)
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
