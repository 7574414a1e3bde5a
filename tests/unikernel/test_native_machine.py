"""The native machine itself, under QEMU without KVM: boot, exceptions, memory, clocks and interrupts.

What runs in it is unikernel/native/src/cpu/trials: each trial says what it has seen.
"""

from __future__ import annotations

import re
import time
from datetime import datetime
from pathlib import Path

import pytest

from bench import instructions
from tests.unikernel import native_trials
from unikernel import elf

BOARDS = ("microvm,acpi=off", "microvm,acpi=off,pit=off,pic=off,rtc=off", "q35")


@pytest.fixture(scope="module")
def kernel() -> Path:
    return native_trials.kernel()


def run(kernel: Path, trial: str, **how: str) -> list[str]:
    return native_trials.boot(f"trial={trial}", kernel=kernel, **how)


def panic(lines: list[str]) -> str:
    """The last line, which is a panic's, without that word."""
    assert lines[-1].startswith("panic: "), lines
    return lines[-1].removeprefix("panic: ")


# Boot.


@pytest.mark.parametrize("board", BOARDS)
def test_a_machine_boots_by_pvh_and_knows_its_command_line(kernel: Path, board: str) -> None:
    lines = native_trials.boot("trial=boot 'a b'", board=board, kernel=kernel)
    assert lines[0] == 'Pvh with 15 MiB, words ["trial=boot", "a b"]'


def test_the_time_is_that_of_the_machines_clock(kernel: Path) -> None:
    before = int(time.time())
    (line,) = [line for line in run(kernel, "boot") if line.startswith("wall")]
    found = re.fullmatch(r"wall Some\((\d+)\)", line)
    assert found
    assert before - 1 <= int(found[1]) <= time.time() + 1


@pytest.mark.parametrize("date", ["2000-02-29T12:00:01", "2024-02-29T23:59:58", "2040-12-31T11:59:59"])
def test_dates_are_those_of_the_calendar(kernel: Path, date: str) -> None:
    """QEMU's clock begins at that date."""
    expected = int(datetime.fromisoformat(f"{date}+00:00").timestamp())
    lines = native_trials.boot("trial=boot", kernel=kernel, more=("-rtc", f"base={date}"))
    assert lines[1] in {f"wall Some({expected + seconds})" for seconds in range(3)}


def test_a_machine_without_a_clock_has_no_time(kernel: Path) -> None:
    assert run(kernel, "boot", board="microvm,acpi=off,rtc=off")[1] == "wall None"


def test_a_clock_that_is_not_there_is_not_looked_for_any_longer_than_one_is_read(kernel: Path, tmp_path: Path) -> None:
    counting = instructions.prepare(tmp_path)
    plugin = ("-plugin", f"{tmp_path / 'instructions.so'},into={tmp_path / 'count'}")
    counts = []
    for clock in ("on", "off"):
        before = instructions.executed(counting)
        native_trials.boot("trial=boot", board=f"microvm,acpi=off,rtc={clock}", kernel=kernel, more=plugin)
        counts.append(instructions.executed(counting) - before)
    there, missing = counts
    assert missing <= there, counts


def test_a_machine_boots_through_hermits_entry_in_the_state_that_uhyve_leaves(kernel: Path) -> None:
    lines = native_trials.boot("trial=hermit trial=boot 'from a device tree'", kernel=kernel)
    assert lines == ['Pvh with 16 MiB, words ["trial=boot", "from a device tree"]', "wall None"]


def test_a_machine_has_all_its_memory_also_above_4_gib(kernel: Path) -> None:
    (line,) = [line for line in run(kernel, "boot", memory="5G") if line.startswith("Pvh")]
    assert line.startswith("Pvh with 5119 MiB")


def test_too_little_memory_is_told_with_how_much_there_is(kernel: Path) -> None:
    (line,) = run(kernel, "boot", memory="1600K")
    said = r"out of memory: the machine has (\d+) KiB, and this image needs more to begin with; --memory gives it more"
    found = re.fullmatch(said, line)
    assert found
    assert 1000 < int(found[1]) <= 1600


def test_a_processor_that_lacks_what_modules_need_is_told(kernel: Path) -> None:
    (line,) = run(kernel, "boot", processor="qemu64")
    assert line.startswith("this processor has no SSSE3, which compiled modules and this kernel need")


def test_the_file_has_room_for_an_images_header_and_its_application(kernel: Path) -> None:
    headers = elf.headers(kernel.read_bytes(), kernel.name)
    assert [segment.type for segment in headers].count(elf.PT_NULL) == 1
    assert 64 + 56 * len(headers) <= 400
    assert not any(kernel.read_bytes()[400:512])


def test_no_part_of_the_file_is_written_and_executed(kernel: Path) -> None:
    write, execute = 2, 1
    flags = [segment.flags for segment in elf.segments(kernel.read_bytes(), kernel.name)]
    assert flags
    assert all(flag & (write | execute) != write | execute for flag in flags)


def test_cloud_hypervisors_machine_is_switched_off_before_it_could_start_again(kernel: Path) -> None:
    """A device of QEMU's stands at the port of Cloud Hypervisor's ACPI. QEMU ends with twice what it gets, plus 1."""
    sleep_of_type_5 = 1 << 5 | 5 << 2
    port = ("-device", "isa-debug-exit,iobase=0x600,iosize=1")
    native_trials.boot("trial=boot", kernel=kernel, more=port, code=2 * sleep_of_type_5 + 1)


# Exceptions.


def test_a_panic_is_one_line_with_its_place(kernel: Path) -> None:
    assert re.fullmatch(r"as was asked for \(src/cpu/trials/mod\.rs:\d+\)", panic(run(kernel, "panic")))


def test_a_panic_of_a_crate_is_one_line_with_its_file(kernel: Path) -> None:
    said = panic(run(kernel, "panic-of-a-crate"))
    assert re.fullmatch(
        r"the time-to-live value of a packet must not be zero \(smoltcp-[\d.]+/src/socket/tcp\.rs\)", said
    )


def test_an_exception_of_the_processor_is_one_line(kernel: Path) -> None:
    lines = run(kernel, "invalid-instruction")
    assert len(lines) == 1
    pattern = r"invalid instruction \(exception 6\) at 0x[0-9a-f]+, error 0x0, stack 0x[0-9a-f]+"
    assert re.fullmatch(pattern, panic(lines))


@pytest.mark.parametrize("trial", ["stack-overflow", "guard"])
def test_a_stack_that_overflows_is_called_that(kernel: Path, trial: str) -> None:
    assert panic(run(kernel, trial)).startswith("stack overflow (exception 14) at 0x")


# Memory.


@pytest.mark.parametrize(
    ("trial", "error"),
    [
        ("null", "0x0"),  # not there
        ("write-code", "0x3"),  # there, written to
        ("write-constant", "0x3"),
        ("execute-constant", "0x11"),  # there, fetched
        ("execute-heap", "0x11"),
        ("publish", "0x3"),
        ("beyond-a-guest", "0x2"),  # not there, written to
    ],
)
def test_memory_is_used_only_as_it_is_meant(kernel: Path, trial: str, error: str) -> None:
    """`error` is the processor's: Intel's manual, volume 3, figure 4-12."""
    assert re.search(rf"^page fault \(exception 14\) .* error {error}, ", panic(run(kernel, trial)))


def test_code_can_be_called_when_it_is_published(kernel: Path) -> None:
    assert run(kernel, "publish")[:2] == ["published code was called", "written to when it was taken back"]


def test_a_stack_gets_pages_as_it_grows_and_a_lack_of_memory_is_an_error(kernel: Path) -> None:
    lines = run(kernel, "stacks")
    assert lines[0] == "a new stack took 0 KiB, and is zeros: true"  # one was kept
    assert lines[1] == "all of it takes 616 KiB"  # 640, but for what was kept
    assert lines[2:4] == ["given back, 0 KiB are kept", "the next one is zeros: true"]
    assert re.fullmatch(
        r"\d+ stacks, then: out of memory for a stack: \d+ of the machine's \d+ KiB are free; --memory gives it more",
        lines[4],
    )
    assert lines[5:] == ["more than 100 stacks: true"]


def test_a_guests_memory_is_zeros_takes_what_is_touched_stays_where_it_is_and_can_lack(kernel: Path) -> None:
    lines = run(kernel, "guests")
    found = re.fullmatch(r"16 MiB: zeros true, took (\d+) KiB", lines[0])
    assert found
    assert 128 <= int(found[1]) <= 128 + 16  # with page tables
    assert lines[1:3] == [
        "grown: at the same address true, kept true, zeros true",
        "again: at the same address true, zeros true",
    ]
    assert lines[3].startswith("growing to 4 GiB: out of memory: an instance grows to 4194304 KiB: ")
    assert lines[4] == "nothing was lost: true"
    assert lines[5].startswith("at the end: out of memory: an instance needs 64 KiB: ")
    assert lines[6:] == ["more than 50: true, as many again: true", "what was kept went to the heap: true"]


def test_a_machine_goes_on_where_a_guest_touches_more_than_there_is(kernel: Path) -> None:
    lines = run(kernel, "touch-too-much")
    for number, begin, touched, left, another in zip((1, 2), *(lines[at:8:4] for at in range(4)), strict=True):
        assert begin == f"round {number}: zeros true, short false"
        assert touched == "all touched: short true, kept true"
        # A sixteenth of 16 MiB, but for what isn't RAM and for the page that the guest ends with.
        assert 900 <= int(left.removeprefix("left for stacks and the heap: ").removesuffix(" KiB")) < 1024
        assert another == "another instance begins: false"
    assert lines[8:] == [
        "a stack grows by a page: short false",
        "all of it is used: short true",
        "the heap grows by 256 KiB: short false",
        "and again: true, short true",
    ]


def test_the_heap_gives_memory_back_and_says_when_there_is_none(kernel: Path) -> None:
    lines = run(kernel, "heap")
    assert lines[:3] == [
        "the heap grew by at least 2000 KB: true",
        "it kept at most 64 KiB: true",
        "too much can be asked for: true",
    ]
    assert re.fullmatch(
        r"out of memory: memory allocation of 65536 bytes failed; \d+ of the machine's \d+ KiB are free; "
        r"--memory gives it more",
        lines[3],
    )


# Clocks and interrupts.


@pytest.mark.parametrize("board", BOARDS)
def test_time_passes_ticks_come_and_idling_ends_when_it_should(kernel: Path, board: str) -> None:
    lines = run(kernel, "clock", board=board)
    ticks = int(lines[0].removeprefix("ticks of 200 ms: "))
    assert 5 <= ticks <= 21  # a machine that has more to do gives QEMU fewer
    for milliseconds, line in zip((3, 50, 1000), lines[1:], strict=False):
        # The tick of a busy host may come before the machine is idle, or after. One that went on would come 100 times.
        found = re.fullmatch(rf"idle for {milliseconds} ms: (\d+) ms, woken ([12]) times, [01] ticks", line)
        assert found, line
        assert milliseconds <= int(found[1]) < milliseconds + 500
    assert re.fullmatch(r"ready: \d ms", lines[-1])


def test_the_processor_has_random_numbers(kernel: Path) -> None:
    assert run(kernel, "random") == ["random: true, the same twice: false"]


def test_a_processor_without_random_numbers_says_so(kernel: Path) -> None:
    lines = run(kernel, "random", processor="max,-rdrand,-rdseed")
    assert lines[0].startswith("random: false")


def test_interrupts_leave_the_registers_of_guests_alone(kernel: Path) -> None:
    assert run(kernel, "floats") == ["0123456789abcdef fedcba9876543210, ticks in between: true"]


@pytest.mark.parametrize("board", BOARDS)
def test_a_devices_interrupt_comes_once_each_time_its_line_is_opened(kernel: Path, board: str) -> None:
    assert run(kernel, "device", board=board) == [
        "registered: Ok(()), line 24: Err(NoSuchLine)",
        "the first: true, another one: false",
        "opened again: true",
    ]
