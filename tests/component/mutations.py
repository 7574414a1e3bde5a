"""Mutated components, read here and by wasmtime: `python -m tests.component.mutations --cases 100000 --seed 1`.

Says where slight_py.component takes what wasmtime refuses, by what wasmtime says, and the other way round. Ends with
exit code 1 if something other than a ComponentError was raised, or took longer than MAX_SECONDS.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import wasmtime

from slight_py.component import binary
from slight_py.component.errors import ComponentError
from slight_py.component.plan import Plan
from tests.component.texts import VALID
from tests.component.verdicts import wasmtime_says

MAX_SECONDS = 5.0


def corpus(files: tuple[Path, ...] = ()) -> list[bytes]:
    return [bytes(wasmtime.wat2wasm(text)) for text in VALID.values()] + [file.read_bytes() for file in files]


def mutated(chance: random.Random, components: list[bytes]) -> bytes:
    """A component with one to four changes."""
    wasm = bytearray(chance.choice(components))
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        _change(chance, wasm, components)
    return bytes(wasm)


def _change(chance: random.Random, wasm: bytearray, components: list[bytes]) -> None:
    at = chance.randrange(len(wasm)) if wasm else 0
    size = chance.choice((1, 1, 2, 4, 8, 32))
    match chance.randrange(9):
        case 0:
            wasm[at : at + 1] = bytes([chance.randrange(256)])
        case 1:
            wasm[at : at + 1] = bytes([chance.randrange(16)])
        case 2 if wasm:
            wasm[at] = (wasm[at] + chance.choice((-1, 1))) % 256
        case 3 if wasm:
            wasm[at] ^= 1 << chance.randrange(8)
        case 4:
            del wasm[at : at + size]
        case 5:
            wasm[at:at] = wasm[at : at + size]
        case 6:
            del wasm[at:]
        case 7:
            other = chance.choice(components)
            start = chance.randrange(len(other))
            wasm[at : at + size] = other[start : start + size]
        case 8:
            _swap_sections(chance, wasm)


def _swap_sections(chance: random.Random, wasm: bytearray) -> None:
    """Moves, repeats or leaves out a section, so that all lengths stay right."""
    parts = list(_sections(bytes(wasm)))
    if len(parts) < 2:
        return
    one, other = chance.randrange(len(parts)), chance.randrange(len(parts))
    match chance.randrange(3):
        case 0:
            parts[one], parts[other] = parts[other], parts[one]
        case 1:
            parts.insert(one, parts[other])
        case 2:
            del parts[one]
    wasm[8:] = b"".join(parts)


def _sections(wasm: bytes) -> Iterator[bytes]:
    at = 8
    while at < len(wasm):
        start, size, shift = at, 0, 0
        at += 1
        while at < len(wasm):
            size |= (wasm[at] & 0x7F) << shift
            shift += 7
            at += 1
            if wasm[at - 1] < 0x80:
                break
        at += size
        yield wasm[start:at]


@dataclass
class Findings:
    cases: int = 0
    agreed: int = 0
    taken: int = 0
    """By both."""
    wrong: list[tuple[bytes, str]] = field(default_factory=list)
    """What raised something else, or took too long."""
    only_here: Counter[str] = field(default_factory=Counter)
    """Taken here, refused by wasmtime, by the reason."""
    only_there: Counter[str] = field(default_factory=Counter)
    """Refused here, taken by wasmtime, by the reason."""
    examples: dict[str, bytes] = field(default_factory=dict)


def compare(wasm: bytes, findings: Findings) -> None:
    findings.cases += 1
    begun = time.perf_counter()
    here, plan = _here(wasm, findings)
    if time.perf_counter() - begun > MAX_SECONDS:
        findings.wrong.append((wasm, f"took {time.perf_counter() - begun:.1f} s"))
    there = wasmtime_says(wasm)
    if (here is None) == (there is None):
        findings.agreed += 1
        findings.taken += here is None
        return
    if here is None:
        reason = "wasmtime: " + ("in a core module" if _in_core_module(there or "", plan) else _sort(there or ""))
        findings.only_here[reason] += 1
    else:
        reason = "here: " + _sort(here)
        findings.only_there[reason] += 1
    if len(findings.examples.get(reason, bytes(1 << 30))) > len(wasm):
        findings.examples[reason] = wasm


def _here(wasm: bytes, findings: Findings) -> tuple[str | None, Plan | None]:
    """Why it is refused here, or what was read."""
    try:
        return None, binary.read(wasm)
    except ComponentError as error:
        return str(error), None
    except BaseException as error:
        findings.wrong.append((wasm, repr(error)))
        return repr(error), None


def _in_core_module(message: str, plan: Plan | None) -> bool:
    """Whether wasmtime found something inside of a core module, which it compiles before anything runs."""
    if "failed to compile" in message:
        return True
    offset = re.search(r"at offset 0x([0-9a-f]+)", message)
    at = int(offset[1], 16) if offset else -1
    return plan is not None and any(module.start <= at <= module.end for module in plan.modules)


def _sort(message: str) -> str:
    """A message without what differs from case to case."""
    message = re.sub(r"\(at offset 0x[0-9a-f]+\)|at byte 0x[0-9a-f]+", "", message)
    message = message.replace("failed to parse WebAssembly module", "").replace("Caused by:", "")
    message = re.sub(r"`[^`]*`|'[^']*'|\"[^\"]*\"", "X", message)
    return re.sub(r"\s+", " ", re.sub(r"0x[0-9a-f]+|\d+", "N", message)).strip()[:160]


def main() -> int:
    parser = argparse.ArgumentParser(description="Reads mutated components here and by wasmtime.")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a directory for one example of each difference")
    parser.add_argument("files", type=Path, nargs="*", help="further components to mutate")
    options = parser.parse_args()
    components = corpus(tuple(options.files))
    chance = random.Random(options.seed)
    findings = Findings()
    for _ in range(options.cases):
        compare(mutated(chance, components), findings)
    report(findings, options.keep)
    return 1 if findings.wrong else 0


def report(findings: Findings, keep: Path | None) -> None:
    print(f"{findings.cases:,} cases, {findings.agreed:,} agreed, of which {findings.taken:,} were taken")
    for title, found in (("taken only here", findings.only_here), ("refused only here", findings.only_there)):
        print(f"{title}: {sum(found.values()):,}")
        for reason, count in found.most_common():
            print(f"  {count:6,} {reason}")
    for wasm, problem in findings.wrong[:20]:
        print(f"WRONG {problem}: {wasm.hex()[:2000]}")
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        for number, (reason, wasm) in enumerate(findings.examples.items()):
            (keep / f"{number}.wasm").write_bytes(wasm)
            (keep / f"{number}.txt").write_text(reason + "\n")


if __name__ == "__main__":
    sys.exit(main())
