"""The linters, as tests: a tree that passes here is one that can be committed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    "words",
    [("ruff", "check", "src", "tests"), ("ruff", "format", "--check", "src", "tests"), ("mypy",)],
    ids=" ".join,
)
def test_the_tree_is_clean(words):
    tool = shutil.which(words[0], path=str(BIN)) or shutil.which(words[0])
    assert tool, f"{words[0]} is not installed: make setup-test"
    done = subprocess.run(
        [tool, *words[1:]], cwd=ROOT, capture_output=True, check=False, text=True, timeout=250
    )
    assert done.returncode == 0, done.stdout + done.stderr
