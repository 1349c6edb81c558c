"""The house: one way down. Nothing lower imports anything higher, and importing the package imports no framework."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastlstm

SOURCE = Path(fastlstm.__file__).parent
# From the ground up. A file may import what stands above it in this list, and nothing else of the package.
FLOORS = [
    ["_engine", "cells", "files", "torch_versions", "traces"],
    ["file_kinds", "torch_hook"],
    ["reference.weights"],
    ["reference.lstm", "reference.gru"],
    ["reference", "shapes", "weights"],
    ["checkpoint", "errors", "streams"],
    ["onnx.model"],
    ["onnx.constants", "onnx.gates", "onnx.parts"],
    ["onnx.nodes", "onnx.projection"],
    ["onnx.stacks", "onnx.writing"],
    ["onnx.reading"],
    ["onnx"],
    [
        "torch.context",
        "torch.dtypes",
        "torch.threads",
        "torch.attributes",
        "torch.adopt.asking",
        "torch.wrap.fx",
        "torch.stream",
    ],
    ["torch.memory", "torch.errors", "torch.runners.fallback", "torch.transforms"],
    ["torch.batch", "torch.runners.composite.lstm", "torch.runners.composite.gru"],
    [
        "torch.runners.composite",
        "torch.runners.torch_kernel",
        "torch.runners.mapped",
        "torch.graph.chain.steps",
        "torch.graph.chain.products",
    ],
    ["torch.graph.chain.projection", "torch.graph.chain.passes"],
    ["torch.graph.chain.steps_passes"],
    ["torch.graph.chain.of_input"],
    ["torch.graph.chain"],
    ["torch.runners.chained"],
    ["torch.runners.forward_mode"],
    ["torch.graph.derivatives", "torch.graph.samples"],
    ["torch.graph.function"],
    ["torch.graph.operator"],
    ["torch.runners.native", "torch.graph.exported", "torch.graph.flops", "torch.graph.compiled"],
    ["torch.graph.lowering"],
    ["torch.runners"],
    ["torch.wrap.autocast", "torch.wrap.tracing", "torch.graph.trace"],
    ["torch.wrap"],
    ["torch.reset_to"],
    ["torch.arguments", "torch.parameters", "torch.adopt.internals"],
    ["torch.adopt.enabling"],
    ["torch.layer", "torch.cell", "torch.adopt.keeping"],
    ["torch.lstm", "torch.gru", "torch.adopt.saying"],
    ["torch.checkpoint", "torch.onnx_files", "torch.adopt.converting"],
    ["torch.adopt"],
    ["torch"],
    ["opacus"],
    ["plot.panels"],
    ["plot.gates", "plot.unrolled"],
    ["plot"],
    ["numpy"],
    ["bench"],
    ["demo"],
    ["cli"],
]
HEIGHT = {module: height for height, floor in enumerate(FLOORS) for module in floor}


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def height_of(module: str) -> int:
    """Of a module, or of the nearest package around it."""
    while module and module not in HEIGHT:
        module = module.rpartition(".")[0]
    return HEIGHT[module] if module else len(FLOORS)  # `fastlstm` itself stands on top


def imports_of(path: Path) -> set[str]:
    """Modules of the package that a file imports, anywhere in it but under TYPE_CHECKING."""
    found = set()
    tree = ast.parse(path.read_text())
    unseen = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if node in unseen:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide what floor they lead to"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                at = SOURCE.parent / name.replace(".", "/")
                known = at.with_suffix(".py").exists() or at.is_dir() or name == "fastlstm._engine"
                found.add(name if known else str(node.module))
    return {name.removeprefix("fastlstm").removeprefix(".") for name in found if name.split(".")[0] == "fastlstm"}


FILES = [path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_nothing_lower_imports_anything_higher(path):
    module = module_of(path)
    package = module.split(".")[0]
    for imported in imports_of(path):
        if package in ("numpy", "bench", "demo", "cli") and imported.split(".")[0] == package:
            continue  # inside one of these packages
        if imported == "":
            assert height_of(module) > HEIGHT["torch"], f"{module} imports fastlstm itself, which stands above it"
            continue
        assert height_of(imported) < height_of(module), f"{module} imports {imported}, which does not stand below it"


PRIVATE = re.compile(
    r"\btorch(\.\w+)*\._[a-zA-Z]|from torch[.\w]*\._\w* import|from torch[.\w]* import _"
    r"|\._(op_dk|get_dispatch|dispatch_cache|opoverload|ragged_idx|is_zerotensor|flat_weight\w*|init_flat_weights|current_level)\b"
)


def test_private_names_of_torch_stand_in_three_files():
    found = {module_of(path) for path in FILES if PRIVATE.search(path.read_text())}
    assert found == {"torch.context", "torch.transforms", "torch.adopt.internals"}


def test_the_number_of_gates_stands_in_one_file():
    """Elsewhere it is len(cells.LSTM.gates); the benchmark's peers are what they are."""
    counted = re.compile(r"\b4 \* (sizes\.|self\.)?H\b|4\*H_cell|chunk\(4|, 4, axis")
    files = [path for path in FILES if not module_of(path).startswith("bench.")]
    assert not [module_of(path) for path in files if counted.search(path.read_text())]


def test_a_file_has_at_most_400_lines():
    for path in FILES:
        assert len(path.read_text().splitlines()) <= 400, path.name


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


def test_importing_the_package_imports_no_framework():
    assert (
        python("import sys, fastlstm; print([m for m in ('torch', 'matplotlib', 'numpy') if m in sys.modules])") == "[]"
    )


def test_without_torch_the_layer_says_what_to_install():
    code = (
        "import sys; sys.modules['torch'] = None\n"  # as if it were not installed
        "import fastlstm, fastlstm.reference, fastlstm.weights, fastlstm.checkpoint\n"
        "for name in ('LSTM', 'LSTMCell', 'convert', 'enable', 'engine', 'from_onnx', 'load', 'strict'):\n"
        "    try: getattr(fastlstm, name)\n"
        "    except ImportError as error: print(error)\n"
    )
    assert python(code).splitlines() == [
        f'fastlstm.{name} needs PyTorch: pip install ".[torch]" in the folder of fastlstm'
        for name in ("LSTM", "LSTMCell", "convert", "enable", "engine", "from_onnx", "load", "strict")
    ]


def test_onnx_is_imported_where_it_is_asked_for():
    assert python("import sys, fastlstm.torch, fastlstm.numpy; print('onnx' in sys.modules)") == "False"
    code = (
        "import sys; sys.modules['onnx'] = None\n"  # as if it were not installed
        "import fastlstm, fastlstm.numpy as bare\n"
        "for call in (lambda: fastlstm.to_onnx, lambda: fastlstm.from_onnx('x'), lambda: bare.onnx_layers('x')):\n"
        "    try: call()\n"
        "    except ImportError as error: print(error)\n"
    )
    words = 'ONNX files need the package onnx: pip install ".[onnx]" in the folder of fastlstm'
    assert python(code).splitlines() == [words] * 3


def test_public_names():
    assert {name for name in dir(fastlstm) if name in fastlstm.__all__} == set(fastlstm.__all__)
    assert {name for name in dir(fastlstm) if not re.fullmatch("__.*__", name)} == {*fastlstm.__all__} - {"__version__"}
    for name in fastlstm.__all__:
        assert getattr(fastlstm, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'RNN'"):
        _ = fastlstm.RNN


def test_the_version_is_the_one_that_is_built():
    project = Path(__file__).parent.parent / "pyproject.toml"
    assert f'\nversion = "{fastlstm.__version__}"\n' in project.read_text()
    assert f"\nversion: {fastlstm.__version__}\n" in project.with_name("CITATION.cff").read_text()
