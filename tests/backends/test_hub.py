"""Fetching by the real clients, from a hub on loopback."""

import hashlib
import itertools
import logging
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backends import hub
from backends.catalog import Source
from backends.hub import progress as progress_module
from tests.backends.hub_server import (
    COMMIT,
    WANTED,
    HubServer,
    Trouble,
    checkpoint,
    forget_settings,
    running_hub,
    safetensors,
)

REPO = "someone/some-model"
WEIGHTS = "model.safetensors"
MODELSCOPE, HUGGINGFACE = Source("modelscope", REPO), Source("huggingface", REPO)
SOURCES = (MODELSCOPE, HUGGINGFACE)
NOWHERE = "http://127.0.0.1:9"  # nothing listens on the port named discard
SILENCE_S = 1.5

either_hub = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.hub)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of ours, a home without the clients' caches, and no settings of theirs."""
    forget_settings(monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TWOPANE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub that the clients are sent to, with one model."""
    with running_hub() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        running.add(REPO, checkpoint())
        yield running


def fetch(*sources: Source, **more: Any) -> Path:
    return hub.fetch(sources, **{"silence_s": 20.0} | more)


def starting_with(source: Source) -> list[str]:
    return sorted(hub.HUBS, key=lambda name: name != source.hub)


def folder_of(cache: Path, source: Source) -> Path:
    branch = {"modelscope": "master", "huggingface": "main"}[source.hub]
    return cache / "models" / source.hub / REPO / branch


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def first_bytes(server: HubServer, file: str = WEIGHTS) -> list[int]:
    """Where each request for the file began."""
    return [first for name, first in server.fetched() if name == file]


def wait_for(condition: Any, timeout_s: float = 20.0) -> None:
    began_s = time.monotonic()
    while not condition():
        assert time.monotonic() - began_s < timeout_s, "it never came to be"
        time.sleep(0.02)


# --- the happy way -------------------------------------------------------------------------------


@either_hub
def test_fetches_what_a_model_needs_and_nothing_else(
    server: HubServer, cache: Path, source: Source
) -> None:
    folder = fetch(source)
    assert folder == folder_of(cache, source)
    assert files_in(folder) == {name: server.repositories[REPO].files[name] for name in WANTED}
    assert sorted(server.fetched()) == [(name, 0) for name in WANTED]  # no code was asked for


@either_hub
def test_fetches_sharded_weights_with_their_index_and_no_second_set(
    server: HubServer, source: Source
) -> None:
    shards = {f"model-0000{n}-of-00003.safetensors": safetensors(50_000, f"{n}") for n in (1, 2, 3)}
    index = {"model.safetensors.index.json": b'{"weight_map": {}}'}
    files = checkpoint() | shards | index | {"pytorch_model.bin.index.json": b"{}"}
    del files[WEIGHTS]
    server.add(REPO, files)
    wanted = {*WANTED, *shards, *index} - {WEIGHTS}
    assert set(files_in(fetch(source))) == wanted
    assert {file for file, _ in server.fetched()} == wanted


def test_asks_modelscope_first(server: HubServer) -> None:
    fetch(*reversed(SOURCES))
    assert server.hubs_asked() == ["modelscope"]


def test_asks_in_another_order_when_told_so(server: HubServer) -> None:
    fetch(*SOURCES, hubs=("huggingface", "modelscope"))
    assert server.hubs_asked() == ["huggingface"]


@either_hub
def test_asks_for_the_pinned_revision(server: HubServer, source: Source) -> None:
    server.repositories[REPO].revisions = {"v1.0.3": "a" * 40}
    fetch(replace(source, revision="v1.0.3"))
    revisions = {asked.revision for asked in server.asked if asked.revision}
    assert revisions == ({"v1.0.3"} if source is MODELSCOPE else {"v1.0.3", "a" * 40})


@either_hub
def test_pins_the_commit(server: HubServer, source: Source) -> None:
    server.repositories[REPO].revisions = {COMMIT: COMMIT}
    folder = fetch(replace(source, revision=COMMIT))
    assert folder.name == COMMIT
    assert {asked.revision for asked in server.asked if asked.revision} == {COMMIT}


def test_a_branch_that_moves_during_the_download_gives_one_commit(server: HubServer) -> None:
    fetch(HUGGINGFACE)
    asked = [asked.revision for asked in server.asked if asked.file in WANTED and asked.revision]
    assert set(asked) == {COMMIT}  # not "main" once more for every file


def test_what_is_in_the_cache_is_not_asked_for(server: HubServer) -> None:
    folder = fetch(*SOURCES)
    server.asked.clear()
    assert fetch(*SOURCES) == folder
    assert hub.find(SOURCES) == folder
    assert server.asked == []


@either_hub
def test_a_pinned_revision_loads_offline(
    server: HubServer, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.repositories[REPO].revisions = {"v1": COMMIT, "v2": "b" * 40}
    folder = fetch(replace(source, revision="v1"))
    server.close()
    assert fetch(replace(source, revision="v1")) == folder
    assert hub.find([replace(source, revision="v2")]) is None


def test_modelscope_is_sought_by_its_former_variable_as_well(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MODELSCOPE_ENDPOINT")
    monkeypatch.setenv("MODELSCOPE_DOMAIN", server.modelscope)
    fetch(MODELSCOPE)
    assert server.hubs_asked() == ["modelscope"]


def test_prints_nothing(server: HubServer, capfd: pytest.CaptureFixture[str]) -> None:
    server.troubles[WEIGHTS] = Trouble(cut_after=100_000, times=1)
    fetch(MODELSCOPE)
    fetch(HUGGINGFACE)
    assert capfd.readouterr() == ("", "")


def test_leaves_nothing_in_the_home_folder(server: HubServer, tmp_path: Path) -> None:
    fetch(MODELSCOPE)
    fetch(HUGGINGFACE)
    assert not (tmp_path / "home").exists()


def test_a_token_goes_to_the_hub_and_not_to_the_host_that_it_redirects_to(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms_secret")
    fetch(MODELSCOPE)
    fetch(HUGGINGFACE)
    given = {asked.url: asked.authorization for asked in server.asked}
    assert given == {
        server.modelscope: "Bearer ms_secret",
        server.huggingface: "Bearer hf_secret",
        server.large: "",
    }


# --- progress ------------------------------------------------------------------------------------


@either_hub
def test_tells_bytes_speed_and_time_left_while_it_goes_on_slowly(
    server: HubServer, source: Source
) -> None:
    server.troubles[WEIGHTS] = Trouble(pause_s=0.02)
    moments: list[tuple[float, hub.Download]] = []
    fetch(source, progress=lambda moment: moments.append((time.monotonic(), moment)))
    seen = [moment for _, moment in moments]
    total = sum(len(server.repositories[REPO].files[name]) for name in WANTED)
    assert {(moment.source, moment.total_bytes) for moment in seen} == {(source, total)}
    done = [moment.done_bytes for moment in seen]
    assert done == sorted(done)
    assert done[-1] == total
    assert len(set(done)) > 3
    middle = seen[len(seen) // 2]
    assert middle.left_s is not None
    assert middle.left_s * middle.bytes_per_s == pytest.approx(total - middle.done_bytes)
    whens = [when for when, moment in moments if moment.done_bytes < total]
    assert all(late - early > 0.15 for early, late in itertools.pairwise(whens))


def test_a_slow_but_steady_hub_is_not_taken_for_a_silent_one(server: HubServer) -> None:
    server.troubles[WEIGHTS] = Trouble(pause_s=0.05)  # in all three times the silence allowed
    began_s = time.monotonic()
    fetch(MODELSCOPE, silence_s=1.2)
    assert time.monotonic() - began_s > 3.6


def test_writes_a_line_to_the_log_every_few_seconds(
    server: HubServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "_LOG_EVERY_S", 0.3)
    server.troubles[WEIGHTS] = Trouble(pause_s=0.02)
    with caplog.at_level(logging.INFO, "backends.hub"):
        fetch(MODELSCOPE)
    line = r"some-model: \d+ kB of 302 kB, [\d.]+ kB/s, \d+ s left, from ModelScope"
    lines = [record.getMessage() for record in caplog.records]
    assert [text for text in lines if re.fullmatch(line, text)]


def test_writes_progress_as_a_person_reads_it() -> None:
    source = Source("modelscope", "Qwen/Qwen1.5-0.5B-Chat")
    moment = hub.Download(source, 312_000_000, 1_239_173_352, 8_400_000.0, 110.0)
    assert progress_module.progress_text(moment) == (
        "Qwen1.5-0.5B-Chat: 312 MB of 1.2 GB, 8.4 MB/s, 2 min left, from ModelScope"
    )
    waiting = progress_module.progress_text(replace(moment, bytes_per_s=0.0, left_s=None))
    assert waiting.endswith("0 bytes/s, waiting, from ModelScope")


# --- interruptions -------------------------------------------------------------------------------


@either_hub
def test_goes_on_where_the_connection_broke(server: HubServer, source: Source) -> None:
    server.troubles[WEIGHTS] = Trouble(cut_after=100_000, times=1)
    folder = fetch(source)
    assert files_in(folder)[WEIGHTS] == server.repositories[REPO].files[WEIGHTS]
    assert first_bytes(server) == [0, pytest.approx(100_000, abs=16_384)]
    assert len(server.fetched()) == len(WANTED) + 1


def test_waits_out_a_short_outage(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSCOPE_DOWNLOAD_MAX_RETRIES", "0")
    server.troubles[WEIGHTS] = Trouble(cut_after=100_000, times=3)
    assert "modelscope" in fetch(*SOURCES).parts
    assert first_bytes(server) == [0, *3 * [pytest.approx(100_000, abs=16_384)]]


@either_hub
def test_a_later_attempt_asks_only_for_the_rest(
    server: HubServer, cache: Path, source: Source
) -> None:
    server.troubles[WEIGHTS] = Trouble(stall_after=200_000)
    with pytest.raises(hub.Offline, match=r"has sent nothing for 1\.5 s"):
        fetch(source, silence_s=SILENCE_S)
    part = folder_of(cache, source) / f"{WEIGHTS}.incomplete"
    there = part.stat().st_size
    assert there > 180_000
    assert hub.find([source]) is None
    server.troubles.clear()
    server.asked.clear()
    assert files_in(fetch(source)).keys() == {*WANTED}
    assert server.fetched() == [(WEIGHTS, there)]


@either_hub
def test_a_killed_process_is_resumed_by_another(
    server: HubServer, cache: Path, source: Source
) -> None:
    server.troubles[WEIGHTS] = Trouble(pause_s=0.02)
    part = folder_of(cache, source) / f"{WEIGHTS}.incomplete"
    with fetching_process(source) as process:
        wait_for(lambda: part.exists() and part.stat().st_size > 50_000)
        process.kill()
        process.wait()
    there = settled_size(part)
    assert 50_000 < there < 290_000
    server.troubles.clear()
    server.asked.clear()
    folder = fetch(source)
    assert first_bytes(server) == [there]
    assert files_in(folder)[WEIGHTS] == server.repositories[REPO].files[WEIGHTS]


def settled_size(part: Path) -> int:
    """The size of a file that nobody writes to any more, which ends when whoever asked is dead."""
    size = -1
    while part.stat().st_size != size:
        size = part.stat().st_size
        time.sleep(0.3)
    return size


def test_two_processes_at_once_download_once(server: HubServer) -> None:
    server.troubles[WEIGHTS] = Trouble(pause_s=0.01)
    with fetching_process(MODELSCOPE) as one, fetching_process(MODELSCOPE) as other:
        assert one.wait(30) == other.wait(30) == 0
        assert one.stdout is not None
        assert other.stdout is not None
        assert one.stdout.read() == other.stdout.read() != b""
    assert sorted(server.fetched()) == [(name, 0) for name in WANTED]


def test_who_waits_for_another_process_hears_how_far_that_is(server: HubServer) -> None:
    server.troubles[WEIGHTS] = Trouble(pause_s=0.02)
    moments: list[hub.Download] = []
    with fetching_process(MODELSCOPE):
        wait_for(lambda: first_bytes(server))
        fetch(MODELSCOPE, progress=moments.append)
    assert len({moment.done_bytes for moment in moments}) > 2
    assert first_bytes(server) == [0]


@contextmanager
def fetching_process(source: Source) -> Iterator[subprocess.Popen[bytes]]:
    """A process that fetches, prints the folder and exits."""
    program = (
        "from backends import hub; from backends.catalog import Source; "
        f"print(hub.fetch([Source({source.hub!r}, {source.repo!r})]))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


@either_hub
def test_can_be_cancelled(server: HubServer, cache: Path, source: Source) -> None:
    server.troubles[WEIGHTS] = Trouble(stall_after=100_000)
    cancel = threading.Event()

    def stop(moment: hub.Download) -> None:
        if moment.done_bytes > 90_000:
            cancel.set()

    began_s = time.monotonic()
    with pytest.raises(hub.Cancelled, match="is kept"):
        fetch(*SOURCES, hubs=starting_with(source), progress=stop, cancel=cancel)
    assert time.monotonic() - began_s < 10.0
    assert server.hubs_asked() == [source.hub]
    assert (folder_of(cache, source) / f"{WEIGHTS}.incomplete").stat().st_size > 80_000


def test_an_error_of_the_callback_ends_the_download(server: HubServer) -> None:
    server.troubles[WEIGHTS] = Trouble(stall_after=100_000)

    def fail(moment: hub.Download) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fetch(MODELSCOPE, progress=fail)
    server.troubles.clear()
    fetch(MODELSCOPE)  # nothing is locked


def test_what_a_branch_had_before_is_not_mixed_with_what_it_has_now(
    server: HubServer, cache: Path
) -> None:
    server.troubles[WEIGHTS] = Trouble(stall_after=100_000)
    with pytest.raises(hub.Offline):
        fetch(MODELSCOPE, silence_s=SILENCE_S)
    server.troubles.clear()
    newer = safetensors(300_000, "x")
    server.add(REPO, checkpoint(newer))
    server.asked.clear()
    assert files_in(fetch(MODELSCOPE))[WEIGHTS] == newer
    assert server.fetched() == [(WEIGHTS, 0)]


def test_a_file_that_has_gone_from_a_folder_is_fetched_again(
    server: HubServer, cache: Path
) -> None:
    folder = fetch(MODELSCOPE)
    (folder / "merges.txt").unlink()
    server.asked.clear()
    assert hub.find(SOURCES) is None
    assert fetch(MODELSCOPE) == folder
    assert server.fetched() == [("merges.txt", 0)]


# --- damage --------------------------------------------------------------------------------------


@either_hub
@pytest.mark.parametrize("file", [WEIGHTS, "config.json"])
def test_a_wrong_hash_is_named_and_the_file_fetched_anew(
    server: HubServer, cache: Path, source: Source, file: str
) -> None:
    wrong = hashlib.sha256(b"other").hexdigest()
    server.repositories[REPO].told[file] = {"sha256": wrong, "blob": wrong[:40]}
    with pytest.raises(hub.Damaged, match=re.escape(file)) as caught:
        fetch(source)
    assert "again" in str(caught.value)
    assert hub.find([source]) is None
    assert file not in files_in(folder_of(cache, source))
    server.repositories[REPO].told.clear()
    server.asked.clear()
    fetch(source)
    assert server.fetched() == [(file, 0)]


@either_hub
@pytest.mark.parametrize("difference", [-5_000, 5_000])
def test_a_wrong_size_is_named(
    server: HubServer, cache: Path, source: Source, difference: int
) -> None:
    size = len(server.repositories[REPO].files[WEIGHTS])
    server.repositories[REPO].told[WEIGHTS] = {"size": size + difference}
    with pytest.raises(hub.Damaged, match=re.escape(WEIGHTS)):
        fetch(source)
    server.repositories[REPO].told.clear()
    assert files_in(fetch(source)).keys() == {*WANTED}


@either_hub
def test_a_file_changed_on_the_disk_is_fetched_anew(
    server: HubServer, cache: Path, source: Source
) -> None:
    server.troubles["tokenizer.json"] = Trouble(stall_after=10)
    with pytest.raises(hub.Offline):
        fetch(source, silence_s=SILENCE_S)
    server.troubles.clear()
    weights = folder_of(cache, source) / WEIGHTS
    weights.write_bytes(bytes(weights.stat().st_size))
    server.asked.clear()
    fetch(source)
    assert first_bytes(server) == [0]


@either_hub
def test_a_beginning_that_was_damaged_on_the_disk_is_fetched_anew(
    server: HubServer, cache: Path, source: Source
) -> None:
    server.troubles[WEIGHTS] = Trouble(stall_after=100_000)
    with pytest.raises(hub.Offline):
        fetch(source, silence_s=SILENCE_S)
    server.troubles.clear()
    part = folder_of(cache, source) / f"{WEIGHTS}.incomplete"
    there = part.stat().st_size
    part.write_bytes(bytes(there))
    server.asked.clear()
    folder = fetch(source)
    assert files_in(folder)[WEIGHTS] == server.repositories[REPO].files[WEIGHTS]
    assert first_bytes(server) == [there, 0]


# --- hubs that don't give it ---------------------------------------------------------------------


def test_goes_to_the_next_hub_when_one_is_down(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", NOWHERE)
    assert "huggingface" in fetch(*SOURCES).parts


def test_offline_says_what_was_tried_and_what_to_do(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", NOWHERE)
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    with pytest.raises(hub.Offline) as caught:
        fetch(*SOURCES)
    assert str(caught.value) == (
        "The weights of some-model can't be fetched. "
        f"ModelScope ({NOWHERE}), {REPO} at master: can't be reached. "
        f"Hugging Face ({NOWHERE}), {REPO} at main: can't be reached. "
        "Check the connection (HTTPS_PROXY names a proxy, MODELSCOPE_ENDPOINT and HF_ENDPOINT a "
        "mirror) and load the model again, which goes on where it stopped; or give a folder that "
        "holds the model."
    )


def test_says_when_it_was_told_to_stay_offline(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(hub.Offline, match="HF_HUB_OFFLINE is set"):
        fetch(HUGGINGFACE)
    assert server.asked == []


@either_hub
def test_a_repository_that_is_not_there(server: HubServer, source: Source) -> None:
    with pytest.raises(hub.NotFound, match=r"not found.*Check the name"):
        fetch(replace(source, repo="someone/another"))


@either_hub
def test_a_revision_that_is_not_there(server: HubServer, source: Source) -> None:
    with pytest.raises(hub.NotFound, match="at v9: not found"):
        fetch(replace(source, revision="v9"))


@either_hub
@pytest.mark.parametrize(("status", "code"), [(403, "GatedRepo"), (401, "GatedRepo"), (403, "")])
def test_a_repository_for_which_one_must_log_in(
    server: HubServer, source: Source, status: int, code: str
) -> None:
    server.repositories[REPO].refused = (status, code)
    with pytest.raises(hub.Forbidden, match=rf"\({status}\).*HF_TOKEN"):
        fetch(source)


@either_hub
def test_a_hub_with_an_error_of_its_own(server: HubServer, source: Source) -> None:
    server.repositories[REPO].refused = (500, "")
    with pytest.raises(hub.Offline, match=r"answers with an error \(500\)"):
        fetch(source)


def test_different_reasons_are_told_one_by_one(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", NOWHERE)
    server.repositories[REPO].refused = (403, "GatedRepo")
    with pytest.raises(hub.HubError) as caught:
        fetch(*SOURCES)
    assert type(caught.value) is hub.HubError
    assert re.search(r"can't be reached\..*access is gated \(403\)\.", str(caught.value))
    assert re.search(r"Check the connection.*HF_TOKEN", str(caught.value))


@either_hub
def test_a_hub_that_hangs_is_left(server: HubServer, source: Source) -> None:
    server.silent = True
    with pytest.raises(hub.Offline, match=r"has sent nothing for 0\.5 s"):
        fetch(source, silence_s=0.5)


def test_a_hub_that_falls_silent_is_left_for_the_next(server: HubServer) -> None:
    server.troubles[WEIGHTS] = Trouble(stall_after=100_000, times=2)
    folder = fetch(*SOURCES, silence_s=SILENCE_S)
    assert "huggingface" in folder.parts
    # Twice at ModelScope, since the first attempt had brought something.
    assert first_bytes(server) == [0, pytest.approx(100_000, abs=16_384), 0]


@either_hub
def test_names_that_lead_out_of_the_folder_are_refused(
    server: HubServer, cache: Path, source: Source
) -> None:
    server.add(REPO, checkpoint() | {"../evil.json": b"{}"})
    with pytest.raises(hub.NotFound, match=r"refused, for it lists the file \.\./evil\.json"):
        fetch(source)
    assert server.fetched() == []
    assert not list(cache.rglob("evil*"))


@either_hub
def test_a_repository_without_a_model_that_can_be_loaded(server: HubServer, source: Source) -> None:
    server.add(REPO, {"config.json": b"{}", "q4.gguf": b"weights"})
    with pytest.raises(hub.NotFound, match=r"no config\.json with model\.safetensors"):
        fetch(source)


@pytest.mark.parametrize("repo", ["../../etc/passwd", "name", "a/b/c", "a/..", ""])
def test_a_name_that_is_no_repository_is_refused(cache: Path, repo: str) -> None:
    with pytest.raises(hub.NotFound, match="not the name of a repository"):
        fetch(Source("modelscope", repo))


def test_a_revision_that_leads_out_of_the_cache_is_refused(cache: Path) -> None:
    with pytest.raises(hub.NotFound, match="not the name of a repository"):
        fetch(Source("huggingface", REPO, "../.."))


def test_no_hub_that_may_be_asked(cache: Path) -> None:
    with pytest.raises(hub.NotFound, match="none of the hubs that may be asked: huggingface"):
        fetch(MODELSCOPE, hubs=("huggingface",))


# --- the disk ------------------------------------------------------------------------------------


@either_hub
def test_says_how_many_bytes_are_missing_where_before_it_fetches(
    server: HubServer, cache: Path, source: Source
) -> None:
    server.repositories[REPO].told[WEIGHTS] = {"size": 10**18}  # more than any disk has
    with pytest.raises(hub.DiskFull, match=r"are missing\. Free as much, or set TWOPANE_C") as told:
        fetch(*SOURCES, hubs=starting_with(source))
    assert 0.9e18 < told.value.missing_bytes <= 10**18 + 10_000
    assert f"{told.value.missing_bytes:,} bytes" in str(told.value)
    assert str(folder_of(cache, source)) in str(told.value)
    assert server.fetched() == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small disk takes root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@either_hub
def test_a_disk_that_fills_up_on_the_way(
    server: HubServer, small_disk: Path, monkeypatch: pytest.MonkeyPatch, source: Source
) -> None:
    monkeypatch.setenv("TWOPANE_CACHE", str(small_disk))
    server.troubles[WEIGHTS] = Trouble(pause_s=0.01)
    other = small_disk / "other"

    def fill(moment: hub.Download) -> None:
        if moment.done_bytes > 20_000 and not other.exists():
            other.write_bytes(bytes(200_000))

    with pytest.raises(hub.DiskFull, match="still to be fetched") as caught:
        fetch(*SOURCES, hubs=starting_with(source), progress=fill)
    assert 0 < caught.value.missing_bytes < 302_213
    assert hub.find([source]) is None
    other.unlink()
    server.troubles.clear()
    server.asked.clear()
    assert files_in(fetch(source)).keys() == {*WANTED}
    assert first_bytes(server)[0] > 0


@either_hub
def test_only_what_is_missing_must_fit_on_the_disk(
    server: HubServer, small_disk: Path, monkeypatch: pytest.MonkeyPatch, source: Source
) -> None:
    monkeypatch.setenv("TWOPANE_CACHE", str(small_disk))
    server.troubles[WEIGHTS] = Trouble(stall_after=200_000)
    with pytest.raises(hub.Offline):
        fetch(source, silence_s=SILENCE_S)
    server.troubles.clear()
    # 150 kB are free now, of 300 kB in all.
    assert files_in(fetch(source)).keys() == {*WANTED}


def test_a_cache_that_can_not_be_written_to(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TWOPANE_CACHE", str(tmp_path / "file"))
    with pytest.raises(hub.Unwritable, match=r"can't be used.*TWOPANE_CACHE"):
        fetch(MODELSCOPE)


# --- the worker ----------------------------------------------------------------------------------


def test_importing_is_cheap() -> None:
    program = (
        "import sys, backends.hub; "
        "print({'torch', 'transformers', 'modelscope_hub', 'huggingface_hub', 'requests', 'tqdm'}"
        " & set(sys.modules))"
    )
    assert run_python(program) == "set()\n"


@pytest.mark.parametrize("name", ["modelscope", "huggingface"])
def test_the_clients_import_no_deep_learning(name: str) -> None:
    program = (
        f"import sys, backends.hub.{name}; "
        "print({'torch', 'transformers', 'modelscope', 'numpy'} & set(sys.modules))"
    )
    assert run_python(program) == "set()\n"


def run_python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    return done.stdout.decode()


def test_a_client_that_crashes_is_told_as_such(
    server: HubServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "soon")  # the client can't be imported
    with pytest.raises(hub.HubError, match=r"its client has crashed\. The log says more"):
        fetch(HUGGINGFACE)
    assert "ValueError: invalid literal for int() with base 10: 'soon'" in caplog.text


def test_a_worker_ends_with_whoever_started_it(server: HubServer) -> None:
    server.troubles[WEIGHTS] = Trouble(stall_after=1000)
    with fetching_process(MODELSCOPE) as process:
        wait_for(lambda: first_bytes(server))
        workers = children_of(process.pid)
        assert workers
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_for(lambda: not any(map(running, workers)))


def children_of(pid: int) -> list[int]:
    told = Path(f"/proc/{pid}/task/{pid}/children")
    if not told.exists():
        pytest.skip("needs Linux's /proc")
    return [int(child) for child in told.read_text().split()]


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
