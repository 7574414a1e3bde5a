"""What README.md and docs say: every command in them does what it's there for, and every link leads somewhere.

Commands stand in blocks marked `sh`, or `console` with `$ ` before each. Their places are filled in a directory of
their own: `app.wasm` is a module that serves, at a free port instead of 3000, and `slightfile.toml` is what the
document has shown last; `examples/build/NAME.wasm` is that example, built. A command that nothing here knows fails.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import pytest

from slight_py import cli
from tests.command import EMULATED, ROOT, SECONDS, Server, environment, running, wait_until
from tests.guests import example
from tests.redis_server import RedisServer
from tests.servers import free_port
from unikernel import uhyve

FOLDERS = (
    "wit",
    "bindgen",
    "capabilities",
    "slight_py",
    "slight_py/component",
    "unikernel",
    "tests",
    "tests/fuzz",
    "docs",
)
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *(ROOT / each / "README.md" for each in FOLDERS[:-1])]

SHELL = ("sh", "console")

GRANTS = """\
specversion = "0.2"

[[capability]]
resource = "http"
name = "web"

[[capability]]
resource = "keyvalue.memory"
name = "*"
"""


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    document: Path
    line: int
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":
            return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return [line for line in lines if line and not line.startswith("#")]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(document: Path) -> list[Block]:
    text = document.read_text()
    fences = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(document, text.count("\n", 0, each.start()) + 1, each[1], each[2]) for each in fences]


def shell_blocks() -> list[Block]:
    return [block for document in DOCUMENTS for block in blocks(document) if block.language in SHELL]


def shown_slightfile(block: Block) -> str:
    """The last whole slightfile above a block."""
    above = [each for each in blocks(block.document) if each.line < block.line and each.language == "toml"]
    return next((each.text for each in reversed(above) if each.text.startswith("specversion")), GRANTS)


@dataclass
class Reader:
    """Types the commands of one block, in a directory with what they name."""

    directory: Path
    redis: RedisServer
    stack: ExitStack
    port: int = field(default_factory=free_port)
    server: Server | None = None
    native: bool = False
    """Whether its images are native."""

    def type(self, line: str) -> None:
        words = shlex.split(line)
        env = {}
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            env[name] = value.replace("redis://127.0.0.1:6379", self.redis.address)
        match words:
            case ["make", *options]:
                self.make(options)
            case ["pip", "install", target]:
                install(target)
            case ["cargo", "install", *_]:
                assert line == uhyve.INSTALL
            case ["slight-py", *options] if "uhyve" in options:
                # It takes a processor that the KVM of few machines of tests gives: the words alone are tried.
                cli._parser(options).parse_args(options)
            case ["slight-py", *options]:
                self.slight_py(options, env)
            case ["qemu-system-x86_64", *options]:
                self.qemu(options)
            case ["curl", *options]:
                self.curl(options)
            case ["python", "-m", "bindgen", *options]:
                env |= environment()
                subprocess.run([sys.executable, "-m", "bindgen", *options], cwd=self.directory, env=env, check=True)
            case _:
                pytest.fail(f"nobody knows how to try the command: {line}")

    def make(self, options: list[str]) -> None:
        """What make would do is run where it is this command's to run; the rest needs a clone of its own."""
        shown = subprocess.run(["make", "-n", *options], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        commands = re.findall(r"^(?:command=\")?\.venv/bin/slight-py ([^\"\n]*)", shown, re.MULTILINE)
        if options[0] == "run":
            (command,) = commands
            self.slight_py([str(ROOT / word) if (ROOT / word).exists() else word for word in command.split()], {})
        elif options[0] == "test":
            assert [tool in shown for tool in (".venv/bin/ruff", ".venv/bin/mypy", "-m pytest")] == [True] * 3
        elif options[0] == "fuzz":
            assert re.search(r"^\.venv/bin/python -m tests\.fuzz run --minutes 60\s*$", shown, re.MULTILINE)
            short = ["--minutes", "0.02", "--without-smith", "--findings", str(self.directory / "findings")]
            subprocess.run([sys.executable, "-m", "tests.fuzz", "run", *short], cwd=ROOT, check=True, timeout=120)
        else:
            pytest.fail(f"nobody knows how to try: make {' '.join(options)}")

    def slight_py(self, options: list[str], env: dict[str, str]) -> None:
        """Runs the command to its end, or until it serves."""
        self.stop()
        options = [str(example(Path(each).stem)) if each.startswith("examples/build/") else each for each in options]
        image = options[0] == "image"
        if image and options[1] in ("run", "inspect"):
            self.build_image(options[2], env)
        if "run" in options and "--restore" not in options:
            at = options.index("--") if "--" in options else len(options)
            address = f"127.0.0.1:{self.port}"
            listen = [] if image else ["--listen", address]
            options = [*options[:at], "--env", f"ADDRESS={address}", *listen, *options[at:]]
            ports = {"8080:3000": f"{self.port}:{self.port}", "3000": str(self.port)}
            options = [ports.get(each, each) for each in options]
        env = {"REDIS_ADDRESS": self.redis.address, "TMPDIR": str(self.directory), **env}
        self.server = self.stack.enter_context(running(*options, env=env, cwd=self.directory))
        self.server.port = self.port
        component = any("/component-" in each for each in options)
        patience = EMULATED if image or component or options[0] == "buildjs" else SECONDS
        if self.server.wait_for_either("serving at", patience):
            assert self.server.get("/hello")[:2] == (200, b"hello") or component
        elif image:
            assert self.server.wait(EMULATED) == 0, self.server.err
            self.server = None
        else:
            assert self.server.wait() == 0, self.server.err
            self.server = None

    def build_image(self, name: str, env: dict[str, str]) -> None:
        """What an earlier block has built."""
        if not (self.directory / name).exists():
            flavour = ["--native"] if self.native else []
            self.slight_py(["image", "build", "app.wasm", "-c", "slightfile.toml", *flavour, "-o", name], env)

    def qemu(self, options: list[str]) -> None:
        """Boots the image that an earlier block has built, and asks it for a page."""
        words = [word.replace("127.0.0.1:3000", f"127.0.0.1:{self.port}") for word in options]
        self.build_image("app.img", {})
        with subprocess.Popen(["qemu-system-x86_64", *words], cwd=self.directory, stdin=subprocess.DEVNULL) as machine:
            try:
                wait_until(lambda: answers(self.port), "an answer", EMULATED)
            finally:
                machine.kill()

    def curl(self, options: list[str]) -> None:
        assert self.server is not None, "nothing serves"
        words = [word.replace("127.0.0.1:3000", f"127.0.0.1:{self.port}") for word in options]
        subprocess.run(["curl", "--fail", "--silent", "--show-error", *words], check=True, timeout=SECONDS)

    def stop(self) -> None:
        """Ends what serves, as a reader does before the next command."""
        if self.server is not None:
            assert self.server.stop() == 0
            self.server = None


def answers(port: int) -> bool:
    with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/hello", timeout=SECONDS) as answer:
        return bool(answer.read() == b"hello")
    return False


def install(target: str) -> None:
    """Of an installation, what can be told without one: that its extras exist."""
    extras = re.fullmatch(r"(?:\.|slight-py)(?:\[(.*)\])?", target)
    assert extras is not None, target
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(filter(None, (extras[1] or "").split(","))) <= project["optional-dependencies"].keys()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """What the commands of the documents name."""
    shutil.copyfile(example("http-server-demo-c"), tmp_path / "app.wasm")
    shutil.copyfile(example("messaging-demo-publisher-c"), tmp_path / "publisher.wasm")
    shutil.copyfile(example("messaging-demo-receiver-rust"), tmp_path / "receiver.wasm")
    shutil.copytree(ROOT / "wit", tmp_path / "wit")
    shutil.copyfile(ROOT / "examples/custom-capability/greeter.wit", tmp_path / "greeter.wit")
    own = [each.text for each in blocks(ROOT / "docs/custom-capabilities.md") if each.language == "wit"]
    (tmp_path / "greeter-package.wit").write_text(own[-1])
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "data").mkdir()
    return tmp_path


@pytest.mark.parametrize("block", shell_blocks(), ids=lambda block: f"{name_of(block.document)}:{block.line}")
def test_the_commands_of_the_documents_work(block: Block, directory: Path, shared_redis: RedisServer) -> None:
    (directory / "slightfile.toml").write_text(shown_slightfile(block))
    with ExitStack() as stack:
        reader = Reader(directory, shared_redis, stack, native=block.document.name == "native.md")
        for command in block.commands:
            reader.type(command)
        reader.stop()


def test_a_command_that_is_not_known_fails(tmp_path: Path, shared_redis: RedisServer) -> None:
    with ExitStack() as stack:
        for command in ("rm -rf /", "make coffee", "make clean", "pip install 'slight-py[nothing]'", "curl localhost"):
            with pytest.raises((pytest.fail.Exception, AssertionError, subprocess.CalledProcessError)):
                Reader(tmp_path, shared_redis, stack).type(command)


def test_no_command_stands_in_a_block_that_is_not_tried() -> None:
    others = [block for document in DOCUMENTS for block in blocks(document) if block.language not in SHELL]
    typed = re.compile(r"^\s*(\$ |(\w+=\S+ )*(slight-py|make|pip|python|curl|redis-\w+|sudo|apt) )", re.MULTILINE)
    usage = "slight-py [--version] [--verbose] [-c FILE] COMMAND ..."
    assert [f"{name_of(b.document)}:{b.line}" for b in others if typed.search(b.text.replace(usage, ""))] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_link_leads_somewhere(document: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if path.startswith("https://"):
            continue
        linked = (document.parent / path).resolve() if path else document
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}, target


def options_of(command: str) -> set[str]:
    """The options that a command takes, less those that every one has."""
    parser = cli._parser([command])
    (commands,) = (action.choices for action in parser._actions if isinstance(action.choices, dict))
    found = {option for action in commands[command]._actions for option in action.option_strings}
    return found - {"-h", "--help", "--verbose"}


def options_in(text: str) -> set[str]:
    """The options in the tables of a document's part."""
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `-")]
    return {option for cell in cells for option in re.findall(r"(?<![\w-])(-\w\b|--[\w-]+)", cell)} - {"--verbose"}


@pytest.mark.parametrize("command", ["run", "bindgen"])
def test_every_option_of_a_command_is_documented(command: str) -> None:
    text = (ROOT / "docs/cli.md").read_text().partition(f"\n## `{command}`\n")[2].partition("\n## ")[0]
    assert options_in(text) == options_of(command)


def test_every_option_of_run_is_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text().partition("\n## Options\n")[2].partition("\n## ")[0]
    assert options_in(text) == options_of("run")


@pytest.mark.parametrize("folder", sorted({*FOLDERS} - {"tests"}))
def test_a_folder_says_what_is_in_each_of_its_files(folder: str) -> None:
    text = (ROOT / folder / "README.md").read_text()
    files = [each for each in (ROOT / folder).iterdir() if each.suffix in (".py", ".wit", ".md", ".c")]
    names = {each.name for each in files} - {"README.md", "__init__.py", "__main__.py"}
    assert {name for name in names if f"({name})" not in text} == set()
