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
    ("tunnels", "pmtu"),
    ("probing",),
    ("diagnosis",),
    ("tracing",),
    ("session", "lab"),
    ("report", "export", "metrics", "pytest_plugin"),
    ("cli",),
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
LONGEST_MODULE, LONGEST_FUNCTION = 350, 50  # "around 300" and "around 40"
HEAVY = {"pyroute2", "rich", "bcc", "scapy", "click", "pyarrow", "jinja2", "markupsafe"}
# Run as processes of their own, which end with what they have loaded.
CHILDREN = ("kernel/bcc_child.py", "tunnels/dump.py")
MODULES = {str(path.relative_to(SRC)): path.read_text() for path in sorted(SRC.rglob("*.py"))}


def room(name):
    """Return the room of a dotted module name; of the package itself, an empty string."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


def own(name):
    """Return the room of a file."""
    return Path(name).with_suffix("").parts[0]


def imports(text, *, top=False):
    """Yield every imported name of a file, dotted; also those in functions and for types only."""
    tree = ast.parse(text)
    for node in tree.body if top else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # from pmtutrace import x, or from pmtutrace.kernel import x: x may be a module.
            yield from ("." * node.level + f"{node.module}.{alias.name}" for alias in node.names)


def tops(text, *, top=False):
    return {name.partition(".")[0] for name in imports(text, top=top)}


def test_every_room_has_its_floor():
    assert {own(name) for name in MODULES} - {"__init__"} <= FLOOR_OF.keys()


def test_imports_go_down():
    wrong = []
    for name, text in MODULES.items():
        for imported in imports(text):
            assert not imported.startswith("."), f"{name}: a relative import hides who is imported"
            other = room(imported) if imported.startswith("pmtutrace.") else own(name)
            if other not in ("__version__", own(name)) and (
                own(name) == "__init__" or FLOOR_OF[other] >= FLOOR_OF[own(name)]
            ):
                wrong.append(f"{name} imports {imported}")
    assert wrong == []


def test_the_test_above_can_see():
    found = set(imports(MODULES["kernel/symbols.py"]))
    assert {"pmtutrace.paths", "pmtutrace.errors.NotSupported"} <= found
    assert "pmtutrace.tunnels.inventory.Inventory" in set(imports(MODULES["tracing/tracer.py"]))


def test_only_the_child_imports_bcc():
    assert [name for name, text in MODULES.items() if "bcc" in tops(text)] == [
        "kernel/bcc_child.py"
    ]


def test_nothing_prints_outside_the_command_line():
    wrong = [
        f"{name}:{node.lineno}"
        for name, text in MODULES.items()
        if own(name) != "cli" and name not in CHILDREN
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "click.echo")
    ]
    assert wrong == []


def test_what_is_heavy_is_imported_only_when_used():
    wrong = {
        name: found
        for name, text in MODULES.items()
        if name not in CHILDREN
        and (found := tops(text, top=True) & (HEAVY - ({"click"} if own(name) == "cli" else set())))
    }
    assert wrong == {}


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


def test_what_names_and_shows_events_is_not_imported_before_programs_are_loaded():
    there = loaded("import pmtutrace.cli.trace, pmtutrace.tracing.tracer")
    later = ("events", "jsonl", "cli.lines", "cli.text", "tracing.naming", "tracing.decode")
    assert there.isdisjoint({f"pmtutrace.{name}" for name in later})
    assert not any(name.startswith("pmtutrace.pmtu") for name in there)


def test_what_pmtu_imports_is_light():
    there = loaded("import pmtutrace.cli.pmtu, pmtutrace.pmtu.watch, pmtutrace.tunnels.inventory")
    assert there.isdisjoint(set(HEAVY) - {"click"})
    assert not any(name.startswith(("pmtutrace.lab", "pmtutrace.tracing")) for name in there)


def test_modules_and_functions_stay_short():
    wrong = [name for name, text in MODULES.items() if text.count("\n") > LONGEST_MODULE]
    for name, text in MODULES.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.body[0].lineno + 1
                if length > LONGEST_FUNCTION:
                    wrong.append(f"{name}: {node.name}, {length} lines")
    assert wrong == []
