"""The house: who may import whom, what is imported when, and how long things are."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src" / "pmtutrace"
# From the ground up. A room imports from the floors below its own, and from itself.
FLOORS = (
    ("errors", "printable"),
    ("paths", "layout"),
    ("events", "kernel"),
    ("vm", "jsonl"),
    ("tunnels", "pmtu", "diagnosis"),
    ("tracing",),
    ("session", "lab"),
    ("report", "export", "metrics", "pytest_plugin"),
    ("cli",),
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
LONGEST_MODULE, LONGEST_FUNCTION = 350, 50
# Longer than the house allows, each with the reason why it is not cut in two.
LONG_MODULES = {
    "kernel/libbpf.py": "one library's calls, and nothing else",
}
LONG_FUNCTIONS: dict[str, str] = {}
HEAVY = ("pyroute2", "rich", "bcc", "scapy", "click")
MODULES = sorted(SRC.rglob("*.py"))
EACH = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SRC)))


def room(name):
    """Return the room of a dotted module name; of the package itself, an empty string."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


def imports(path):
    """Yield every imported module of a file, whole names; also inside functions, also for types."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports hide who is imported"
            # from pmtutrace import x, or from pmtutrace.kernel import x: x may be a module.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own(path):
    return path.relative_to(SRC).with_suffix("").parts[0]


def test_every_room_has_its_floor():
    rooms = {own(path) for path in MODULES} - {"__init__"}
    assert rooms <= FLOOR_OF.keys()


@EACH
def test_imports_go_down(path):
    mine = own(path)
    for name in imports(path):
        if not name.startswith("pmtutrace."):
            continue
        other = room(name)
        if other in ("__version__", mine):
            continue
        assert mine != "__init__", f"the package itself imports {name}"
        assert FLOOR_OF[other] < FLOOR_OF[mine], f"{mine} imports {name}"


@EACH
def test_only_the_child_imports_bcc(path):
    tops = {name.partition(".")[0] for name in imports(path)}
    assert ("bcc" in tops) == (path == SRC / "kernel" / "bcc_child.py")


@EACH
def test_nothing_prints_outside_the_command_line(path):
    if own(path) == "cli" or path == SRC / "kernel" / "bcc_child.py":
        return  # the child's whole purpose is to print what its parent reads
    calls = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "click.echo")
    ]
    assert calls == []


@EACH
def test_what_is_heavy_is_imported_only_when_used(path):
    body = ast.parse(path.read_text()).body
    tops = {
        alias.name.partition(".")[0]
        for node in body
        if isinstance(node, ast.Import)
        for alias in node.names
    } | {(node.module or "").partition(".")[0] for node in body if isinstance(node, ast.ImportFrom)}
    allowed = {"click"} if own(path) == "cli" else set()
    assert tops.isdisjoint(set(HEAVY) - allowed) or path.parent.name == "pytest_plugin"


def loaded(statement):
    """Return the modules that are there after a statement, in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}\nimport sys; print(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module",
    ["pmtutrace", "pmtutrace.tracing", "pmtutrace.kernel.build", "pmtutrace.cli.main"],
)
def test_importing_loads_nothing_heavy(module):
    assert loaded(f"import {module}").isdisjoint(HEAVY)


def test_what_trace_imports_is_light():
    there = loaded(
        "import pmtutrace.cli.trace, pmtutrace.tracing.tracer, pmtutrace.tunnels.inventory, "
        "pmtutrace.tracing.summary, pmtutrace.tracing.filters, pmtutrace.jsonl"
    )
    assert there.isdisjoint(set(HEAVY) - {"click"})
    assert not any(name.startswith(("pmtutrace.lab", "pmtutrace.vm")) for name in there)


@EACH
def test_modules_stay_short(path):
    name = str(path.relative_to(SRC))
    long = len(path.read_text().splitlines()) > LONGEST_MODULE
    assert long <= (name in LONG_MODULES), f"{name} is too long"


@EACH
def test_functions_stay_short(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{path.relative_to(SRC)}:{node.name}"
            length = (node.end_lineno or 0) - node.body[0].lineno + 1
            assert length <= LONGEST_FUNCTION or name in LONG_FUNCTIONS, f"{name}: {length}"


def test_the_allowances_are_needed():
    for name in LONG_MODULES:
        assert len((SRC / name).read_text().splitlines()) > 300
