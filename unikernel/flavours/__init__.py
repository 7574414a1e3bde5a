"""What stands around an application in an image: a flavour is a kernel, a runtime, and the machine that they need.

Whatever differs between flavours is behind `Flavour`. Nothing else in this package asks which flavour an image has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from unikernel import manifest

if TYPE_CHECKING:
    from slight_py.compilation import CompileLimits
    from slight_py.runner import AnyChecked, RunConfig
    from slight_py.slightfile import Grant, Slightfile
    from unikernel.application import Application
    from unikernel.image import Image
    from unikernel.machine import Machine
    from unikernel.options import RunOptions

OUT_OF_MEMORY = "the machine ran out of memory"
"""What `Flavour.last_words` says where more of it would have helped."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be built. `docs/image.md` has what each field means."""

    app: Path | None
    """None: a function service, which gets its modules when it runs."""
    slightfile: Path | None
    output: Path
    formats: Sequence[str] = ("img",)
    cpu: manifest.Cpu = "portable"
    kernel: Path | Literal["cloud"] | None = None
    """One in place of ours; `cloud` for Debian's."""
    smp: bool = False
    link_all: bool = False
    compilation: CompileLimits
    progress: Progress
    """Told what the user should know."""


class Flavour(Protocol):
    """One flavour. What raises anything raises UsageError, for what the user can put right."""

    @property
    def name(self) -> manifest.Flavour: ...

    @property
    def memory(self) -> int:
        """Bytes of memory that a machine has where nobody says how much."""

    # To build an image.

    def check_order(self, order: Order) -> None:
        """Raises UsageError for what is asked of an image and can't be."""

    def check_module(self, path: Path, wasm: bytes) -> None:
        """Raises UsageError for a module or a component that can't run there, as far as its first bytes show."""

    def lacks(self, grant: Grant, known: Mapping[str, str]) -> str | None:
        """What to say of a grant that can't be in an image. `known` are those of its values that are there already."""

    def check_backend(self, grant: Grant, slightfile: Slightfile, known: Mapping[str, str]) -> None:
        """Raises UsageError for a grant whose backend can't be made, as far as the `known` ones of its values show."""

    def load(self, config: RunConfig, wasm: bytes, cpu: manifest.Cpu, link_all: bool) -> tuple[AnyChecked, bytes]:
        """Compiles a module or a component, the content of `config.app`, and checks what it needs: what it is, and its
        machine code."""

    def places(self, order: Order) -> list[Path]:
        """The files that are to be written."""

    def write(self, order: Order, application: Application) -> Iterator[Path]:
        """Writes the files, and yields each when it is there. Raises UsageError."""

    # To run one.

    def check_run(self, image: Image, options: RunOptions) -> None:
        """Raises UsageError for what is asked of a machine and can't be."""

    def board(self, machine: Machine) -> str:
        """The kind of machine, as QEMU's option -M has it."""

    def boot(self, machine: Machine) -> list[str]:
        """QEMU's words for what is booted: a kernel, its command line, and its disk where it has one."""

    def command_line(self, root: manifest.RootType) -> str:
        """The kernel's command line, for a launcher that asks for it."""

    def last_words(self, lines: Sequence[str]) -> str | None:
        """Why a machine ended that gave no exit code, by the lines that its kernel said last, if they tell."""

    def kernel_text(self, kernel: manifest.Kernel) -> str:
        """What `image inspect` calls a kernel."""


def named(name: manifest.Flavour) -> Flavour:
    """The flavour of that name."""
    if name == "native":
        from unikernel.flavours.native import Native

        return Native()
    from unikernel.flavours.linux import Linux

    return Linux()
