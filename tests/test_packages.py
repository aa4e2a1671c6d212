"""The table of packages, pyproject.toml and the imports of the source say the same."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kinecast.cli import main
from kinecast.errors import KinecastError
from kinecast.packages import CORE, EXTRAS, WEIGHTS, Package, explained, needs, optional

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
OPTIONAL = {package for packages in EXTRAS.values() for package in packages}
IMPORTS_BY_NAME = {"import_module", "find_spec", "optional", "shipped_file", "importorskip"}
# Of the development tools; and what comes with a package that is named, in the tests of what it does there.
DEVELOPMENT = {"pytest", "_pytest", "hypothesis", "psutil", "aioice"}
# Of scripts that are run once, for converted weights, golden files and judged faces; they say how to install these.
DEVELOPMENT |= {"tensorflow", "tflite", "ai_edge_litert", "mediapipe", "dlib", "face_recognition_models"}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=\[; ]", line)[0].lower() for line in requirements}


def imported(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the first name of each foreign module that the files of a folder import, and where."""
    ours = {
        "kinecast",
        *(path.stem for side in ("tests", "benchmarks", "recipes") for path in (ROOT / side).rglob("*")),
    }
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            for name in named(node):
                first = name.partition(".")[0]
                if first not in sys.stdlib_module_names and first not in ours:
                    yield first, f"{path.relative_to(ROOT)}:{node.lineno}"  # type: ignore[attr-defined]


def named(node: ast.AST) -> list[str]:
    """Return the modules that a statement imports, or a call of a function that takes their names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""] if node.level == 0 else []
    if isinstance(node, ast.Call):
        function = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if function in IMPORTS_BY_NAME:
            texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            return texts[1:2] if function == "optional" else texts[:1]
    return []


def modules(packages: Any) -> set[str]:
    return {module for package in packages for module in package.modules}


def test_the_project_declares_what_the_table_names() -> None:
    assert names(PROJECT["project"]["dependencies"]) == {package.name for package in CORE}
    extras = {extra: names(lines) for extra, lines in PROJECT["project"]["optional-dependencies"].items()}
    development = extras.pop("dev")
    extras.pop("docs")  # tools that build pages, which the package does not import
    assert extras == {extra: {package.name for package in packages} for extra, packages in EXTRAS.items()}
    assert "kinecast" in development  # with all extras:
    (everything,) = [
        line for line in PROJECT["project"]["optional-dependencies"]["dev"] if line.startswith("kinecast[")
    ]
    assert set(everything.removeprefix("kinecast[").removesuffix("]").split(",")) == set(EXTRAS)
    weights = [f"{package.name}=={number}" for package, number in WEIGHTS.items()]
    assert PROJECT["dependency-groups"]["weights"] == weights


def test_every_package_is_pinned_for_development() -> None:
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert {package.name for package in (*CORE, *OPTIONAL, *WEIGHTS)} <= pinned


def test_every_import_of_the_source_is_declared() -> None:
    known = modules(CORE) | modules(OPTIONAL) | modules(WEIGHTS)
    undeclared = [f"{where} imports {name}" for name, where in imported(ROOT / "src") if name not in known]
    assert not undeclared


def test_every_declared_package_is_imported() -> None:
    elsewhere = {
        "pybullet": "by a name in a loop",
        "pybullet_data": "by a name in a loop",
        "tensorboard": "by torch",
        "onnxruntime": "by who runs an exported network",
    }
    used = {name for name, _ in imported(ROOT / "src")} | set(elsewhere)
    unused = (modules(CORE) | modules(OPTIONAL) | modules(WEIGHTS)) - used
    assert not unused


@pytest.mark.parametrize("folder", ["tests", "benchmarks", "recipes"])
def test_every_import_around_it_is_declared(folder: str) -> None:
    known = modules(CORE) | modules(OPTIONAL) | modules(WEIGHTS) | DEVELOPMENT
    undeclared = [f"{where} imports {name}" for name, where in imported(ROOT / folder) if name not in known]
    assert not undeclared


def test_without_extras_the_commands_start() -> None:
    """Only what comes with kinecast is there: commands that need more say so in a line, and the others work."""
    code = f"""
import sys
from importlib.abc import MetaPathFinder
class Hidden(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {sorted(modules(OPTIONAL))}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
from kinecast.cli import main
assert main(["--help"]) == 0 and main(["zoo", "list"]) == 0
from kinecast import load_backbone
load_backbone("tiny", "cpu", "fast")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_what_is_missing_is_said_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    needs("training", "train")
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    line = "training: expected the package tensorboard, found none: pip install 'kinecast[train]'"
    for call in (lambda: needs("training", "train"), lambda: optional("training", "tensorboard")):
        with pytest.raises(KinecastError) as caught:
            call()
        assert str(caught.value) == line


def test_what_does_not_load_is_no_missing_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "nncf.py").write_text("raise ImportError('libGL.so.1: cannot open\\nshared object file')")
    monkeypatch.delitem(sys.modules, "nncf", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KinecastError, match="found one that does not load .libGL.so.1: cannot open shared object"):
        optional("calibration", "nncf")


def test_a_package_is_there_with_all_its_modules() -> None:
    assert Package("numpy", ("numpy",)).installed
    assert not Package("numpy", ("numpy", "numpy_of_tomorrow")).installed
    assert not Package("a-package-of-nobody", ("numpy",)).installed


def test_modules_of_no_extra_are_faults_of_ours() -> None:
    with pytest.raises(ModuleNotFoundError, match="numqy"):
        explained(ModuleNotFoundError("No module named 'numqy'", name="numqy"))
    error = explained(ModuleNotFoundError("No module named 'sklearn.metrics'", name="sklearn.metrics"))
    assert "package scikit-learn, found none: pip install 'kinecast[research]'" in str(error)


@pytest.mark.parametrize(
    ("module", "extra", "command"),
    [
        ("constriction", "codec", "encode clip.mp4 -o out.kcm"),
        ("constriction", "codec", "decode clip.kcm -o out.mp4"),
        ("lightning_fabric", "train", "train backbone --data clips -o run"),
        ("tensorboard", "train", "train backbone --data clips -o run"),
        ("matplotlib", "plot", "anomaly clip.mp4 --normal clips -o report"),
        ("scoringrules", "research", "research keypoints --data keypoints.npz --validate a -o report"),
        ("dcor", "research", "research synthetic -o report"),
        ("seaborn", "research", "research rate clip.mp4 -o report"),
        ("constriction", "codec", "research rate clip.mp4 -o report"),
        ("sklearn", "research", "research paper --dataset clips --layout voxceleb -o report"),
        ("matplotlib", "research", "research single --dataset clips --layout voxceleb -o report"),
        ("matplotlib", "research", "research diverse --dataset clips --layout voxceleb -o report"),
        ("skvideo", "demo", "demo -o demo"),
        ("pybullet", "arms", "research arms -o arms"),
    ],
)
def test_commands_say_what_they_lack_before_they_begin(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    module: str,
    extra: str,
    command: str,
) -> None:
    monkeypatch.chdir(tmp_path)  # where none of the named files is: that would be said next
    monkeypatch.setitem(sys.modules, module, None)
    assert main(command.split()) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kinecast: ") and line.endswith(f", found none: pip install 'kinecast[{extra}]'")
    assert list(tmp_path.iterdir()) == []
