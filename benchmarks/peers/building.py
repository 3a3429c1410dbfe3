"""The peers, built from their published sources for this CPU, in a folder of their own.

Needs gcc, cmake and Python's headers; the sources come from the package index. What is there
already is not made again, and a build that was broken off goes on. Runs and measures nothing.
"""

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.paths import ROOT

LLAMA = "llama_cpp_python==0.3.36"
CHATGLM = "chatglm_cpp==0.4.2"

# What llama.cpp's package and its GGUF writer import.
_PACKAGES = ("numpy", "typing-extensions", "diskcache", "jinja2", "pyyaml", "tqdm")
# On CPUs that have AMX, llama.cpp's use of it ends in an illegal instruction.
_NO_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
_LLAMA_FLAGS = {
    "CMAKE_BUILD_TYPE": "Release",
    "BUILD_SHARED_LIBS": "ON",
    "GGML_NATIVE": "ON",
    "GGML_CCACHE": "OFF",
    "CMAKE_C_FLAGS": _NO_AMX if platform.machine() == "x86_64" else "",
    "CMAKE_CXX_FLAGS": _NO_AMX if platform.machine() == "x86_64" else "",
    **dict.fromkeys(
        (
            *("LLAMA_BUILD_COMMON", "LLAMA_BUILD_TESTS", "LLAMA_BUILD_TOOLS"),
            *("LLAMA_BUILD_EXAMPLES", "LLAMA_BUILD_SERVER", "LLAMA_BUILD_APP", "LLAMA_OPENSSL"),
        ),
        "OFF",
    ),
}
_CHATGLM_FLAGS = {
    "CMAKE_BUILD_TYPE": "Release",
    # The only way to AVX-512 there.
    "CMAKE_C_FLAGS": "-march=native",
    "CHATGLM_ENABLE_PYBIND": "ON",
    "CHATGLM_ENABLE_EXAMPLES": "OFF",
}

# chatglm.cpp takes as many threads as the machine has cores, whatever it is told.
THREADS_VARIABLE = "CHATGLM_CPP_THREADS"
_ALL_CORES = "unsigned int n_threads = std::thread::hardware_concurrency();"
_SO_MANY = f'unsigned int n_threads = std::atoi(std::getenv("{THREADS_VARIABLE}"));'


class BuildError(Exception):
    """A peer can't be built here; says why."""


@dataclass(frozen=True)
class Peer:
    """A built peer.

    Attributes:
        python: The interpreter that can import it.
        variables: Environment variables that it needs.
        version: Of its package.
        flags: How it was built.
    """

    python: Path
    version: str
    flags: str
    variables: Mapping[str, str] = field(default_factory=dict)


def build_llama(folder: Path) -> Peer:
    """Build llama.cpp.

    Raises:
        BuildError: A tool is missing, or a step fails.
    """
    build = _Build(folder.resolve())
    package = build.source(LLAMA)
    library = build.compile(package / "vendor" / "llama.cpp", "llama", _LLAMA_FLAGS, "llama")
    paths = (ROOT, package, package / "vendor" / "llama.cpp" / "gguf-py")
    variables = {"LLAMA_CPP_LIB_PATH": str(library / "bin"), "PYTHONPATH": _joined(paths)}
    flags = "GGML_NATIVE=ON (-march=native), without AMX, Release"
    return Peer(build.python, LLAMA, flags, variables)


def build_chatglm(folder: Path) -> Peer:
    """Build chatglm.cpp.

    Raises:
        BuildError: A tool is missing, or a step fails.
    """
    build = _Build(folder.resolve())
    package = build.source(CHATGLM)
    settable_threads(package)
    # Its CMake project names a file that isn't in the package.
    (package / "tests" / "perplexity.cpp").touch()
    flags = _CHATGLM_FLAGS | {"PYTHON_EXECUTABLE": str(build.python)}
    library = build.compile(package, "chatglm", flags, "_C")
    described = f'CMAKE_C_FLAGS="{_CHATGLM_FLAGS["CMAKE_C_FLAGS"]}" (AVX-512), Release'
    variables = {"PYTHONPATH": _joined((ROOT, library / "lib"))}
    return Peer(build.python, CHATGLM, f"{described}, number of threads settable", variables)


def settable_threads(package: Path) -> None:
    """Have chatglm.cpp's sources take the number of threads from a variable.

    Raises:
        BuildError: The line isn't there.
    """
    path = package / "chatglm.cpp"
    text = path.read_text("utf-8")
    if _SO_MANY in text:
        return
    if _ALL_CORES not in text:
        raise BuildError(f"{path} does not choose its threads as expected.")
    path.write_text(text.replace(_ALL_CORES, _SO_MANY), "utf-8")


def check_tools() -> None:
    """Look for what can't be had from the package index.

    Raises:
        BuildError: Something is missing; names it all.
    """
    missing = [tool for tool in ("gcc", "g++", "cmake", "make") if shutil.which(tool) is None]
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        missing.append("Python's headers (python3-dev)")
    if missing:
        raise BuildError(f"Building the peers needs {', '.join(missing)}: install that first.")


class _Build:
    """The steps, each of which is left out where its result is there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "build.log"
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def python(self) -> Path:
        return self._folder / "venv" / "bin" / "python"

    def source(self, package: str) -> Path:
        """Return the folder of a package's sources."""
        name, _, version = package.partition("==")
        self._environment()
        sources = self._folder / "sources"
        found = sources / f"{name}-{version}"
        if not found.exists():
            self._pip("download", "--no-deps", "--no-binary", name, "--dest", sources, package)
            _unpack(sources / f"{found.name}.tar.gz", found)
        return found

    def compile(self, source: Path, name: str, flags: Mapping[str, str], target: str) -> Path:
        """Return the folder in which a target of a CMake project is built."""
        built = self._folder / f"build-{name}"
        done = built / ".done"
        settings = [f"-D{key}={value}" for key, value in flags.items()]
        if not done.exists() or done.read_text() != "\n".join(settings):
            check_tools()
            self._run("cmake", "-G", "Unix Makefiles", "-S", source, "-B", built, *settings)
            jobs = str(os.cpu_count() or 1)
            self._run("cmake", "--build", built, "--target", target, "--parallel", jobs)
            done.write_text("\n".join(settings))
        return built

    def _environment(self) -> None:
        done = self._folder / "venv" / ".done"
        if not done.exists():
            self._run(sys.executable, "-m", "venv", self._folder / "venv")
            self._pip("install", *_PACKAGES)
            done.touch()

    def _pip(self, *arguments: str | Path) -> None:
        self._run(self.python, "-m", "pip", "--disable-pip-version-check", *arguments)

    def _run(self, *command: str | Path) -> None:
        words = [str(word) for word in command]
        with self._log.open("ab") as log:
            log.write(f"\n$ {' '.join(words)}\n".encode())
            log.flush()
            code = subprocess.call(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if code:
            last = "\n".join(self._log.read_text("utf-8", "replace").splitlines()[-15:])
            raise BuildError(f"{' '.join(words[:4])} ... failed, see {self._log}:\n{last}")


def _unpack(archive: Path, folder: Path) -> None:
    unfinished = folder.parent / "unpacked"
    shutil.rmtree(unfinished, ignore_errors=True)
    with tarfile.open(archive) as file:
        file.extractall(unfinished, filter="data")
    (unfinished / folder.name).rename(folder)
    unfinished.rmdir()


def _joined(paths: Sequence[Path]) -> str:
    return os.pathsep.join(map(str, paths))
