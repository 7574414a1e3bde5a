"""The images that are measured: what is in them, and how they are built."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from bench.machines import SLIGHT_PY_IMAGE, TIME
from bench.processes import ROOT
from bench.table import matrix, number

BUILD_TIME = 900.0
"""Seconds for building an image, with the kernel if there is none yet."""

HTTP, KEYVALUE = "http-server-demo-rust", "keyvalue-demo-rust"

DEMO, HELLO, SERVICE = "http demo", "WASI hello", "function service"
"""Names of images."""

EMPTY_INIT = """
#include <sys/reboot.h>
int main(void) { return reboot(RB_AUTOBOOT); }
"""

GREETING = "hello"
"""What the WASI program prints."""

HELLO_PROGRAM = f"""
#include <stdio.h>
int main(void) {{ puts("{GREETING}"); }}
"""

UPPER = """
static unsigned char buffer[65536];
__attribute__((export_name("get_buffer_ptr"))) unsigned char *get_buffer_ptr(void) { return buffer; }
__attribute__((export_name("get_buffer_size"))) int get_buffer_size(void) { return sizeof buffer; }
__attribute__((export_name("process_data"))) int process_data(int length) {
    for (int i = 0; i < length; i++) buffer[i] &= 0xdf;
    return length;
}
"""

STATIC = ("-target", "x86_64-linux-musl", "-static")
WASI = ("-target", "wasm32-wasi")
REACTOR = (*WASI, "-mexec-model=reactor")


def compiled(source: str, output: Path, *options: str) -> Path:
    """Compiles a C program."""
    written = output.with_suffix(".c")
    written.write_text(source)
    command = [sys.executable, "-m", "ziglang", "cc", *options, "-Os", "-s", "-o", str(output), str(written)]
    subprocess.run(command, check=True, timeout=BUILD_TIME)
    return output


def build_apps(scratch: Path) -> dict[str, Path]:
    """The modules that become images, by the names of these."""
    examples = [sys.executable, str(ROOT / "examples/build.py"), HTTP, KEYVALUE]
    subprocess.run(examples, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=BUILD_TIME)
    return {
        DEMO: ROOT / f"examples/build/{HTTP}.wasm",
        "keyvalue demo": ROOT / f"examples/build/{KEYVALUE}.wasm",
        HELLO: compiled(HELLO_PROGRAM, scratch / "hello.wasm", *WASI),
    }


def build_images(apps: Mapping[str, Path], scratch: Path, *options: str) -> dict[str, Path]:
    """An image of each module, in the directory `scratch`, which is made."""
    scratch.mkdir()
    return {name: built(scratch / f"{name.replace(' ', '-')}.img", str(app), *options) for name, app in apps.items()}


def built(output: Path, *words: str) -> Path:
    """Builds an image, of the function service if there is no module among the words."""
    command = [*SLIGHT_PY_IMAGE, "build", *words, "-o", str(output)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=BUILD_TIME)
    return output


def parts(path: Path) -> dict[str, int]:
    """The bytes of each part of an image, and of the whole."""
    command = [*SLIGHT_PY_IMAGE, "inspect", "--json", str(path)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=TIME)
    report = json.loads(done.stdout)
    return {part["name"]: part["size"] for part in report["parts"]} | {"whole": report["bytes"]}


def sizes_table(sizes: Mapping[str, Mapping[str, int]]) -> str:
    """The parts of the images in MB, a column for each image."""
    names = list(dict.fromkeys(name for image_parts in sizes.values() for name in image_parts))
    names.sort(key="whole".__eq__)
    rows = [(name, [number(image.get(name, 0) / 1e6) for image in sizes.values()]) for name in names]
    return matrix("part, MB", list(sizes), rows)


def archive(init: bytes) -> bytes:
    """An initramfs with nothing in it but /init. The format is newc, see the kernel's buffer-format.rst."""
    content = bytearray()
    for name, mode, file in (("init", 0o100755, init), ("TRAILER!!!", 0, b"")):
        encoded = name.encode() + b"\0"
        fields = (1, mode, 0, 0, 1, 0, len(file), 0, 0, 0, 0, len(encoded), 0)
        content += b"070701" + b"".join(b"%08X" % field for field in fields)
        for piece in (encoded, file):
            content += piece
            content += bytes(-len(content) % 4)
    return bytes(content)
