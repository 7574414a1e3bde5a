"""ELF files: what they need, what may be left out of them, and broken ones."""

from __future__ import annotations

import contextlib
import random
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import wasmtime

from slight_py.errors import UsageError
from unikernel import elf

SECONDS = 60.0


def compile_c(source: str, output: Path, *flags: str) -> Path:
    command = ["gcc", "-x", "c", "-", "-o", output, *flags]
    subprocess.run(command, input=source, text=True, check=True, timeout=SECONDS)
    return output


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elf")
    flags = ("-shared", "-fPIC", "-g", "-Wl,--no-as-needed", "-lm", "-Wl,-rpath,/one:$ORIGIN/two")
    return compile_c("int answer(void) { return 42; }", folder / "library.so", *flags)


def wasmtime_library() -> Path:
    return next(Path(wasmtime.__file__).parent.rglob("_libwasmtime.so"))


def load_in_a_process(library: Path, statement: str) -> str:
    code = f"import ctypes; library = ctypes.CDLL({str(library)!r}); print({statement})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# What a file needs.


def test_an_executable_names_its_loader_and_its_libraries():
    needed = elf.needed(Path("/bin/true").resolve())
    assert needed.interpreter == "/lib64/ld-linux-x86-64.so.2"
    assert needed.libraries == ("libc.so.6",)
    assert needed.runpath == ()


def test_a_library_names_its_libraries_and_where_they_are(library):
    needed = elf.needed(library)
    assert needed.interpreter is None
    assert needed.libraries == ("libm.so.6", "libc.so.6")
    assert needed.runpath == ("/one", "$ORIGIN/two")


def test_the_older_rpath_counts_where_there_is_no_runpath(tmp_path):
    flags = ("-shared", "-fPIC", "-Wl,--disable-new-dtags", "-Wl,-rpath,/old")
    assert elf.needed(compile_c("int x;", tmp_path / "old.so", *flags)).runpath == ("/old",)


def test_a_static_executable_needs_nothing(tmp_path):
    needed = elf.needed(compile_c("int main(void) { return 0; }", tmp_path / "static", "-static"))
    assert needed == elf.Needed(None, (), ())


def test_what_is_said_to_be_needed_is_what_the_loader_looks_for():
    """By the loader's own account."""
    path = wasmtime_library()
    listed = subprocess.run(["ldd", path], capture_output=True, text=True, check=True, timeout=SECONDS).stdout
    for name in elf.needed(path).libraries:
        assert name in listed


# What is left out.


def test_a_stripped_library_is_smaller_and_works(library, tmp_path):
    data = library.read_bytes()
    stripped = elf.strip(data, "library.so")
    assert len(stripped) < len(data) - 1000
    path = tmp_path / "stripped.so"
    path.write_bytes(stripped)
    assert load_in_a_process(path, "library.answer()") == "42"
    assert elf.needed(path) == elf.needed(library)


def test_wasmtime_loads_without_section_headers(tmp_path):
    path = tmp_path / "_libwasmtime.so"
    path.write_bytes(elf.strip(wasmtime_library().read_bytes(), "wasmtime"))
    assert load_in_a_process(path, "bool(library.wasm_engine_new())") == "True"


def test_the_interpreter_runs_without_section_headers(tmp_path):
    original = Path(sys.executable).resolve()
    stripped = tmp_path / "python"
    stripped.write_bytes(elf.strip(original.read_bytes(), "python"))
    stripped.chmod(0o755)
    command = [stripped, "-I", "-S", "-c", "import math; print(math.sqrt(1764))"]
    home = {"PYTHONHOME": sysconfig.get_config_var("prefix")}
    done = subprocess.run(command, env=home, capture_output=True, text=True, timeout=SECONDS)
    assert done.stdout.strip() == "42.0", done.stderr


def test_stripping_gives_the_same_bytes_each_time_and_once_is_enough(library):
    data = library.read_bytes()
    once = elf.strip(data, "library.so")
    assert once == elf.strip(data, "library.so") == elf.strip(once, "library.so")


# Kernels, made by hand; test_kernel.py starts real ones.


def make_kernel(*parts: tuple[int, bytes, int], notes: bytes = b"") -> bytes:
    """An ELF file with a segment for each (address, content, size in memory), at offsets of 64 KiB, and notes in the
    last segment."""
    segments: list[tuple[int, ...]] = []
    body = b""
    for address, content, memory in parts:
        offset = 0x10000 + len(body)
        segments.append((1, 5, offset, address, address, len(content), memory, 0x10000))
        body += content + bytes(-len(content) % 0x10000)
    if notes:
        offset = 0x10000 + len(body)
        address = parts[-1][0] + (1 << 24)
        segments.append((1, 4, offset, address, address, len(notes), len(notes), 0x1000))
        segments.append((4, 4, offset, address, address, len(notes), len(notes), 4))
        body += notes
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, 0x1000, 64, 0, 0, 64, 56, len(segments), 0, 0, 0
    )
    table = b"".join(struct.pack("<IIQQQQQQ", *segment) for segment in segments)
    return (header + table).ljust(0x10000, b"\0") + body


PVH = struct.pack("<III4sI", 4, 4, 18, b"Xen\0", 0x1000)


def memory_of(data: bytes) -> dict[int, bytes]:
    """What a boot loader puts into memory, by address; neighbours are joined."""
    found: dict[int, bytes] = {}
    for each in elf.segments(data, "kernel"):
        if each.type == elf.PT_LOAD:
            content = data[each.offset : each.end].ljust(each.memory, b"\0")
            before = next((start for start in found if start + len(found[start]) == each.physical), None)
            if before is None:
                found[each.physical] = content
            else:
                found[before] += content
    return found


def test_a_packed_kernel_has_the_same_memory_without_the_long_zeros():
    content = b"a" * 5000 + bytes(300_000) + b"b" * 70_000 + bytes(200_000)
    plain = make_kernel((0, bytes(100_000) + content, 700_000), (1 << 20, b"c", 1), notes=PVH)
    packed = elf.pack(plain, "kernel")
    assert memory_of(packed) == memory_of(plain)
    assert len(packed) < 250_000
    assert elf.has_pvh_note(packed, "kernel")
    assert elf.pack(packed, "kernel") == packed


def test_traps_between_parts_of_the_code_are_left_out():
    packed = elf.pack(make_kernel((0, b"a" * 100 + b"\xcc" * 500_000 + b"b", 500_101)), "kernel")
    assert len(packed) < 100_000
    memory = memory_of(packed)[0]
    assert (memory[:100], memory[-1:], len(memory)) == (b"a" * 100, b"b", 500_101)


def test_a_packed_kernel_leaves_the_first_sector_to_a_partition_table():
    assert not any(elf.pack(make_kernel((0, b"a", 1), notes=PVH), "kernel")[64:512])


@pytest.mark.parametrize(
    "notes",
    [
        b"",
        struct.pack("<III4sI", 4, 4, 17, b"Xen\0", 0x1000),
        struct.pack("<III4sI", 4, 4, 18, b"GNU\0", 0x1000),
        struct.pack("<III", 0xFFFFFFFF, 0xFFFFFFFF, 18),
        b"\0" * 11,
    ],
)
def test_other_notes_are_not_taken_for_the_pvh_note(notes):
    assert not elf.has_pvh_note(make_kernel((0, b"a", 1), notes=notes), "kernel")


# Broken files.


def test_a_file_that_is_not_elf_is_named(tmp_path):
    path = tmp_path / "text"
    path.write_text("text")
    with pytest.raises(UsageError, match=r"text: this is not an ELF file"):
        elf.needed(path)


def test_an_elf_file_for_another_processor_is_named():
    data = bytearray(make_kernel((0, b"a", 1)))
    data[18] = 183
    with pytest.raises(UsageError, match="not for x86-64"):
        elf.segments(bytes(data), "arm")


@pytest.mark.parametrize("size", [4, 20, 63, 64, 100, 0x10000])
def test_a_file_that_is_cut_short_is_named(library, size):
    with pytest.raises(UsageError, match="cut short"):
        elf.segments(make_kernel((0, b"a" * 5000, 5000))[:size], "kernel")


def test_a_file_with_more_segments_than_fit_is_no_kernel():
    with pytest.raises(UsageError, match="this is no kernel"):
        elf.pack(make_kernel(*((at << 20, b"a", 1) for at in range(65))), "kernel")


def test_any_damage_gives_an_answer_or_a_usage_error(library, tmp_path):
    whole = library.read_bytes()
    chosen = random.Random(1)
    path = tmp_path / "damaged.so"
    for _ in range(500):
        data = bytearray(whole)
        for _ in range(chosen.randrange(1, 8)):
            data[chosen.randrange(1024)] = chosen.choice((0, 1, 0x7F, 0xFF, chosen.randrange(256)))
        path.write_bytes(data[: chosen.choice((len(data), chosen.randrange(len(data))))])
        for work in (elf.needed, *(lambda path, each=each: each(path.read_bytes(), "it") for each in WORK)):
            with contextlib.suppress(UsageError):
                work(path)


WORK = (elf.segments, elf.strip, elf.pack, elf.has_pvh_note)
