"""Finding what is on this machine already, in caches that the clients themselves have filled.

Layouts of releases that can't be installed beside today's are laid out by hand, as their code did.
"""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from backends import hub
from backends.cache import cache_folder
from backends.catalog import Source
from tests.backends.hub_server import (
    COMMIT,
    HubServer,
    checkpoint,
    forget_settings,
    running_hub,
    safetensors,
)

REPO = "Qwen/Qwen1.5-0.5B-Chat"
MODELSCOPE, HUGGINGFACE = Source("modelscope", REPO), Source("huggingface", REPO)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without any cache, and no settings that lead elsewhere."""
    forget_settings(monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TWOPANE_CACHE", str(tmp_path / "ours"))
    return tmp_path


@pytest.fixture
def server(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with one model, known by a commit, branches and a tag."""
    with running_hub() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        revisions = dict.fromkeys(("main", "master", "v1.0.3"), COMMIT)
        running.add(REPO, checkpoint(), revisions=revisions)
        yield running


def run_client(program: str) -> Path:
    """Let a client download as its users do, and return the folder that it says."""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    return Path(done.stdout.splitlines()[-1])


def download_with_modelscope(revision: str = "master") -> Path:
    arguments = f"{REPO!r}, 'model', revision={revision!r}"
    return run_client(
        f"from modelscope_hub import HubApi; print(HubApi().download_repo({arguments}))"
    )


def download_with_huggingface(revision: str = "main") -> Path:
    return run_client(
        "from huggingface_hub import snapshot_download; "
        f"print(snapshot_download({REPO!r}, revision={revision!r}))"
    )


def lay_out(folder: Path, files: dict[str, bytes] | None = None) -> Path:
    for name, data in (checkpoint() if files is None else files).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


# --- what the clients have downloaded ------------------------------------------------------------


@pytest.mark.parametrize("revision", ["", "main", COMMIT])
def test_finds_what_huggingface_hub_has_downloaded(server: HubServer, revision: str) -> None:
    folder = download_with_huggingface()
    server.close()
    assert hub.fetch([replace(HUGGINGFACE, revision=revision)]) == folder
    assert not cache_folder().exists()


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME"])
def test_finds_the_cache_of_huggingface_hub_where_its_variables_put_it(
    server: HubServer, home: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(home / "elsewhere"))
    folder = download_with_huggingface()
    assert folder.is_relative_to(home / "elsewhere")
    assert hub.find([HUGGINGFACE]) == folder


@pytest.mark.parametrize("variable", [None, "MODELSCOPE_CACHE"])
def test_finds_what_modelscope_has_downloaded(
    server: HubServer, home: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    if variable:
        monkeypatch.setenv(variable, str(home / "elsewhere"))
    folder = download_with_modelscope()
    server.close()
    assert hub.fetch([MODELSCOPE]) == folder
    assert hub.find([replace(MODELSCOPE, repo=REPO.lower())]) == folder


def test_a_pinned_revision_is_that_revision_in_the_clients_caches_as_well(
    server: HubServer,
) -> None:
    download_with_huggingface()
    download_with_modelscope()
    assert hub.find([replace(HUGGINGFACE, revision="b" * 40)]) is None
    assert hub.find([replace(MODELSCOPE, revision="v1.0.3")]) is None
    folder = download_with_modelscope("v1.0.3")
    assert hub.find([replace(MODELSCOPE, revision="v1.0.3")]) == folder


def test_looks_at_all_sources(server: HubServer) -> None:
    folder = download_with_huggingface()
    assert hub.find([MODELSCOPE, HUGGINGFACE]) == folder


def test_prefers_what_was_checked(server: HubServer) -> None:
    download_with_modelscope()
    folder = hub.fetch([HUGGINGFACE])
    assert hub.find([MODELSCOPE, HUGGINGFACE]) == folder


@pytest.mark.parametrize(
    "layout",
    [
        ".cache/modelscope/hub/models/qwen/Qwen1___5-0___5B-Chat",
        ".cache/modelscope/hub/qwen/Qwen1___5-0___5B-Chat",
        ".cache/modelscope/models/Qwen/Qwen1___5-0___5B-Chat",
        ".cache/modelscope/Qwen/Qwen1.5-0.5B-Chat",
    ],
)
def test_finds_what_older_releases_of_modelscope_have_downloaded(home: Path, layout: str) -> None:
    folder = lay_out(home / layout)
    (folder / ".mv").write_text("Revision:master,CreatedAt:1706000000")
    assert hub.find([MODELSCOPE]) == folder
    assert hub.find([replace(MODELSCOPE, revision="master")]) == folder
    assert hub.find([replace(MODELSCOPE, revision="v1.0.3")]) is None
    (folder / ".mv").write_text("Revision:v1.0.3,CreatedAt:1706000000")
    assert hub.find([replace(MODELSCOPE, revision="v1.0.3")]) == folder
    assert hub.find([replace(MODELSCOPE, revision="master")]) is None


def test_finds_what_was_downloaded_under_an_organisations_former_name(home: Path) -> None:
    name = f".cache/huggingface/hub/models--THUDM--chatglm-6b-int4/snapshots/{COMMIT}"
    folder = lay_out(home / name)
    assert hub.find([Source("huggingface", "zai-org/chatglm-6b-int4", COMMIT)]) == folder


# --- what was broken off -------------------------------------------------------------------------


@pytest.fixture
def snapshot(home: Path) -> Path:
    """A whole snapshot in the cache of huggingface_hub."""
    repository = home / ".cache/huggingface/hub/models--Qwen--Qwen1.5-0.5B-Chat"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(COMMIT)
    folder = lay_out(repository / "snapshots" / COMMIT)
    assert hub.find([HUGGINGFACE]) == folder
    return folder


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_snapshot_without_a_needed_file_is_not_found(snapshot: Path, missing: str) -> None:
    (snapshot / missing).unlink()
    assert hub.find([HUGGINGFACE]) is None


def test_a_snapshot_without_weights_is_not_found(snapshot: Path) -> None:
    (snapshot / "model.safetensors").unlink()
    (snapshot / "pytorch_model.bin").unlink()
    assert hub.find([HUGGINGFACE]) is None


def test_weights_that_are_cut_off_are_not_found(snapshot: Path) -> None:
    os.truncate(snapshot / "model.safetensors", 200_000)
    assert hub.find([HUGGINGFACE]) is None


def test_weights_that_are_no_safetensors_are_not_found(snapshot: Path) -> None:
    (snapshot / "model.safetensors").write_bytes(b"<html>Please log in</html>")
    assert hub.find([HUGGINGFACE]) is None


def test_bin_weights_that_are_cut_off_are_not_found(snapshot: Path) -> None:
    (snapshot / "model.safetensors").unlink()
    weights = snapshot / "pytorch_model.bin"
    with zipfile.ZipFile(weights, "w") as archive:
        archive.writestr("archive/data.pkl", bytes(10_000))
    assert hub.find([HUGGINGFACE]) == snapshot
    os.truncate(weights, 5_000)
    assert hub.find([HUGGINGFACE]) is None


def test_shards_are_found_only_when_all_of_them_are_there(snapshot: Path) -> None:
    (snapshot / "model.safetensors").unlink()
    shards = [snapshot / f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for shard in shards:
        shard.write_bytes(safetensors(1_000))
    index = snapshot / "model.safetensors.index.json"
    whole = json.dumps({"weight_map": {"a": shards[0].name, "b": shards[1].name}})
    index.write_text(whole)
    assert hub.find([HUGGINGFACE]) == snapshot
    index.write_text('{"weight_map": {"w": "model-00003-of-00002.safetensors"}}')
    assert hub.find([HUGGINGFACE]) is None
    index.write_text("[]")
    assert hub.find([HUGGINGFACE]) is None
    index.write_text(whole)
    os.truncate(shards[1], 500)
    assert hub.find([HUGGINGFACE]) is None
    shards[1].unlink()
    assert hub.find([HUGGINGFACE]) is None


def test_shards_without_their_index_can_not_be_loaded_and_are_not_found(snapshot: Path) -> None:
    (snapshot / "model.safetensors").rename(snapshot / "model-00001-of-00001.safetensors")
    (snapshot / "pytorch_model.bin").unlink()
    assert hub.find([HUGGINGFACE]) is None


def test_weights_that_the_server_does_not_load_are_not_found(snapshot: Path) -> None:
    (snapshot / "model.safetensors").rename(snapshot / "gptq_model-4bit-128g.safetensors")
    (snapshot / "pytorch_model.bin").unlink()
    assert hub.find([HUGGINGFACE]) is None


# --- our own cache -------------------------------------------------------------------------------


def test_nothing_is_found_in_an_empty_home(home: Path) -> None:
    assert hub.find([MODELSCOPE, HUGGINGFACE]) is None
    assert hub.find([]) is None


def test_twopane_cache_moves_what_is_fetched(
    server: HubServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = hub.fetch([MODELSCOPE])
    monkeypatch.setenv("TWOPANE_CACHE", str(home / "moved"))
    assert hub.find([MODELSCOPE]) is None
    shutil.move(home / "ours", home / "moved")
    assert hub.find([MODELSCOPE]) == home / "moved" / folder.relative_to(home / "ours")


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"files": [{}]}', '{"files": 1}'])
def test_a_folder_whose_record_is_damaged_is_not_found(server: HubServer, record: str) -> None:
    folder = hub.fetch([MODELSCOPE])
    (folder / ".fetched/files.json").write_text(record)
    assert hub.find([MODELSCOPE]) is None


def test_the_cache_is_in_the_users_cache_folder_unless_it_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWOPANE_CACHE", "~/large")
    assert cache_folder() == home / "large"
    monkeypatch.delenv("TWOPANE_CACHE")
    assert cache_folder().name == "twopane"
    assert cache_folder().is_relative_to(home)
