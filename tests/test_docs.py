"""README tells the truth about settings, commands and endpoints."""

import re
import tomllib

import yaml

from app import cli
from tests.paths import ROOT
from ui.command_line.settings import Settings
from ui.pages import PATHS

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_setting_has_its_row_with_default_and_meaning() -> None:
    rows = dict(re.findall(r"^\|[^|]*\| `(TWOPANE_\w+)` \| (.*) \|$", README, re.MULTILINE))
    expected = {}
    for name, field in Settings.model_fields.items():
        default = field.default
        shown = getattr(default, "get_secret_value", lambda value=default: value)()
        cell = "" if shown is None else f"`{shown}` "
        expected[f"TWOPANE_{name.upper()}"] = f"{cell}| {field.description}"
    assert {name: row.lstrip() for name, row in rows.items()} == expected


def test_every_command_is_named() -> None:
    words = " ".join(README.split())
    for command in cli.registered_commands:
        assert command.callback is not None
        assert f"python app.py {command.name or command.callback.__name__}" in words


def test_the_space_front_matter_fits_the_dockerfile() -> None:
    front = yaml.safe_load(README.split("---")[1])
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert front["sdk"] == "docker"
    assert f"EXPOSE {front['app_port']}" in dockerfile
    assert f"TWOPANE_PORT={front['app_port']}" in dockerfile


def test_the_dockerfile_takes_all_that_the_app_imports() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copied = set(re.findall(r"^COPY --chown=twopane (\w+) \1$", dockerfile, re.MULTILINE))
    packages = {folder.parent.name for folder in ROOT.glob("*/__init__.py")}
    assert copied == packages - {"tests", "benchmarks"}


def test_every_requirement_is_pinned_exactly() -> None:
    for file in ("requirements.txt", "requirements-dev.txt", "requirements-readers.txt"):
        lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
        names = [line for line in lines if line and not line.startswith("#")]
        assert names
        assert [line for line in names if not re.fullmatch(r"[\w.\[\]-]+==[\w.]+", line)] == []


def test_links_to_files_lead_somewhere() -> None:
    for document in ("README.md", "CONTRIBUTING.md", "backends/tiny/README.md"):
        file = ROOT / document
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", file.read_text(encoding="utf-8")):
            assert (file.parent / target).exists(), f"{document}: {target}"


def test_the_pages_are_where_the_header_links_to() -> None:
    header = (ROOT / "ui/templates/header.html").read_text(encoding="utf-8")
    assert {f"/{link}" for link in re.findall(r'href="\./(\w*)"', header)} == set(PATHS)


def test_checked_packages_are_all_packages() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {folder.parent.name for folder in ROOT.glob("*/__init__.py")}
    assert set(settings["tool"]["mypy"]["packages"]) == packages | {"app"}
