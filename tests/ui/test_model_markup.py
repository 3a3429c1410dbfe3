"""What the models page says of models: everything that is known, in both languages, escaped."""

import asyncio
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from backends.backend import Backend, State
from backends.catalog import MODELS, Model, Source
from backends.checkpoint import Checkpoint
from backends.client import Endpoint
from backends.hub import Download
from backends.memory import DoesNotFit, Fit
from backends.recorded import RecordedModel
from backends.specs import resolve
from backends.supervisor import ModelServer
from db import Language
from tests.paths import TINY
from ui import model_markup
from ui.language import Texts, texts_in

QWEN, CHATGLM = MODELS["qwen1.5-0.5b-chat"], MODELS["chatglm-6b-int4"]
ELSEWHERE = "http://10.1.2.3:8000/v1#llama3"
GB = 1_000_000_000
TINY_QWEN = TINY / "tiny-qwen"


class Told(Backend):
    """A backend that is in whatever state a test says: a real one takes its own time."""

    def told(self, state: State, **more: object) -> "Told":
        self._become(state, **more)  # type: ignore[arg-type]
        return self

    def loaded(self) -> "Told":
        """Ready, with what only its files and the loaded network could tell."""
        if self.model.local:
            folder = self.model.folder or TINY_QWEN
            files = Checkpoint(folder, "qwen2", 777, 123_456, 5 * GB, 32, "0123456789abcdef")
            self.model = self.model.with_checkpoint(files)
            self._precision = "float32"
        return self.told(State.READY)

    async def _keep_up(self) -> None:
        await asyncio.sleep(0)

    def _endpoint(self) -> Endpoint:
        return Endpoint("http://127.0.0.1:9/v1", self.model.key)


@pytest.fixture(params=Language)
def t(request: pytest.FixtureRequest) -> Texts:
    return texts_in(request.param)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).write_text("{}")
    return tmp_path


def states(t: Texts, backend: Backend, need_bytes: int = 2 * GB) -> str:
    fit = Fit(((backend.model.title, need_bytes),), free_bytes=20 * GB)
    return unescape(model_markup.states(t, [backend], fit))


def table(t: Texts, *models: Model, operator: bool = True) -> str:
    backends = [Told(model).told(State.READY) for model in models]
    return unescape(model_markup.table(t, backends, operator=operator))


def verdict(t: Texts, *needs: tuple[Model, int]) -> str:
    models = [model for model, _ in needs]
    fit = Fit(tuple((model.title, need) for model, need in needs), free_bytes=5 * GB)
    return unescape(model_markup.found(t, models, fit))


@pytest.mark.parametrize("state", State)
def test_each_state_has_its_words(t: Texts, state: State) -> None:
    html = states(t, Told(QWEN).told(state))
    assert t(f"state_{state}") in html
    assert QWEN.title in html
    assert "2.0 GB" in html
    assert "20.0 GB" in html


def test_loading_shows_stage_and_share(t: Texts) -> None:
    html = states(t, Told(QWEN).told(State.LOADING, progress=0.42, detail="first step"))
    assert 'value="0.420"' in html
    assert "42 %" in html
    assert t("stage_first_step") in html


@pytest.mark.parametrize(("left_s", "left"), [(125.0, "2 min"), (None, None)])
def test_a_download_shows_bytes_of_the_total_speed_and_time_left(
    t: Texts, left_s: float | None, left: str | None
) -> None:
    source = Source("modelscope", "ZhipuAI/ChatGLM-6B-Int4")
    download = Download(source, 2 * GB, 4 * GB, 16_000_000.0, left_s)
    backend = Told(CHATGLM).told(State.LOADING, progress=0.5, detail="download", download=download)
    html = states(t, backend)
    assert t("bytes_of", done="2.0 GB", total="4.0 GB") in html
    assert "16.0 MB/s" in html
    assert "ModelScope ZhipuAI/ChatGLM-6B-Int4" in html
    assert 'value="0.500"' in html
    assert (t("time_left", time=left) in html) if left else ("None" not in html)


def test_a_local_model_shows_its_threads(t: Texts) -> None:
    assert t("threads", n=3) in states(t, ModelServer(QWEN, threads=3))
    assert t("threads", n=1) not in states(t, Told(QWEN))


def test_a_failure_shows_its_reason_and_the_restarts_and_no_bar(t: Texts) -> None:
    backend = Told(QWEN).told(State.RESTARTING, restarts=2, detail="was ended by SIGKILL")
    assert t("need_and_restarts", need="2.0 GB", n=2) in states(t, backend)
    html = states(t, backend.told(State.FAILED, detail="no <weights>"))
    assert "no <weights>" in html
    assert "<progress" not in html


def test_what_nobody_knows_is_said_to_be_unknown(t: Texts) -> None:
    assert t("need_unknown") in states(t, Told(QWEN), need_bytes=0)
    assert t("need_elsewhere") in states(t, Told(resolve(ELSEWHERE)), need_bytes=0)
    html = table(t, resolve("someone/some-model"))
    assert html.count(t("unknown")) >= 5
    assert t("newest") in html


def test_models_of_a_hub_show_repository_and_revision(t: Texts) -> None:
    html = table(t, CHATGLM, operator=False)
    for source in CHATGLM.sources:
        assert f"{source.repo} @ {source.revision or t('newest')}" in html
    assert t("size_to_download", size="3.9 GB") in html
    assert "6,173,286,400" in html
    assert "ChatGLM-6B Model License" in html


def test_chatglm_has_the_context_of_its_config_beside_the_article_s(t: Texts) -> None:
    html = table(t, CHATGLM)
    assert t("context_tokens", n="2,048") in html
    assert t("context_article", said="8K") in html


def test_every_row_of_the_article_s_table_is_there_with_its_source(t: Texts) -> None:
    html = table(t, QWEN, CHATGLM)
    for model in (QWEN, CHATGLM):
        for row in model.properties:
            assert (row.zh if t.language is Language.ZH else row.en) in html
            assert t(f"prop_{row.key}") in html
    assert t("article_table") in html
    assert "config.json, max_sequence_length" in html


def test_a_model_that_the_article_doesn_t_have_gets_no_such_table(t: Texts) -> None:
    assert t("article_says") not in table(t, MODELS["tiny-qwen"], resolve(ELSEWHERE))


def test_folders_and_addresses_of_this_machine_are_for_the_operator_alone(t: Texts) -> None:
    folder = MODELS["tiny-qwen"].folder
    assert folder is not None
    local = replace(MODELS["tiny-qwen"], builtin=False, folder=folder, adapter=folder / "tuned")
    open_, closed = (
        table(t, local, resolve(ELSEWHERE), operator=operator) for operator in (True, False)
    )
    assert str(folder) in open_
    assert "10.1.2.3:8000/v1" in open_
    assert str(folder.parent) not in closed
    assert "http" not in closed
    assert t("with_adapter", adapter="tuned") in closed


@pytest.mark.parametrize(
    "specs",
    [
        ("tiny-qwen", "tiny-chatglm"),
        ("qwen1.5-0.5b-chat", "chatglm-6b-int4"),
        ("someone/some-model", "other/other-model@v2"),
        ("someone/some-model", "tiny-qwen"),
        (str(TINY / "tiny-chatglm"), "someone/some-model+{adapter}"),
        (ELSEWHERE, "someone/some-model"),
    ],
)
@pytest.mark.parametrize("state", [state for state in State if state is not State.READY])
def test_only_the_operator_can_tell_from_the_table_which_model_is_not_ready(
    t: Texts, specs: tuple[str, str], state: State, adapter: Path
) -> None:
    one, other = (resolve(spec.format(adapter=adapter)) for spec in specs)

    def tables(*backends: Told) -> tuple[str, str]:
        open_, closed = (model_markup.table(t, backends, operator=who) for who in (True, False))
        return open_, closed

    neither = tables(Told(one).told(state), Told(other).told(state))
    left = tables(Told(one).loaded(), Told(other).told(state))
    right = tables(Told(one).told(state), Told(other).loaded())
    died = tables(Told(one).loaded(), Told(other).loaded().told(state))
    both = tables(Told(one).loaded(), Told(other).loaded())
    assert neither[1] == left[1] == right[1] == died[1] != both[1]
    assert left[0] != right[0]
    assert "float32" in both[1]


def test_until_both_are_ready_everybody_reads_what_the_catalog_says(t: Texts) -> None:
    html = unescape(model_markup.table(t, [Told(QWEN).loaded(), Told(CHATGLM)], operator=False))
    for words in ("463,987,712", "6,173,286,400", "1.2 GB", "3.9 GB", "ChatGLM-6B (v1)"):
        assert words in html
    for words in ("777", "0123456789abcdef", t("size_to_download", size="3.9 GB")):
        assert words not in html


def test_what_doesn_t_fit_says_so_with_the_figures(t: Texts) -> None:
    fit = Fit(((QWEN.title, 2 * GB), (CHATGLM.title, 6 * GB)), free_bytes=5 * GB)
    html = unescape(model_markup.found(t, (QWEN, CHATGLM), fit))
    assert t("fits_not") in html
    assert t("memory_both", needed="8.0 GB", free="5.0 GB") in html
    assert t("fits") in unescape(
        model_markup.found(t, (QWEN, CHATGLM), replace(fit, free_bytes=9 * GB))
    )


def test_what_nobody_can_know_yet_is_not_said_to_fit(t: Texts) -> None:
    later = resolve("someone/some-model")
    html = verdict(t, (QWEN, 2 * GB), (later, 0))
    assert t("fits") not in html
    assert t("fits_unknown") in html
    assert t("memory_known", needed="2.0 GB", free="5.0 GB") in html
    assert t("fits_not") in verdict(t, (QWEN, 6 * GB), (later, 0))
    assert t("fits") in verdict(t, (QWEN, 2 * GB), (resolve(ELSEWHERE), 0))


def test_memory_of_which_a_part_is_not_known_is_not_said_to_be_all(t: Texts) -> None:
    assert t("memory_known", needed="0 bytes", free="20.0 GB") in states(
        t, Told(QWEN), need_bytes=0
    )
    assert t("memory_both", needed="2.0 GB", free="20.0 GB") in states(t, Told(QWEN))


def test_a_model_that_didn_t_fit_names_the_page_s_own_way_to_load_it(t: Texts) -> None:
    refusal = DoesNotFit(Fit(((QWEN.title, 2 * GB),), GB))
    way = t("force_here", check=t("check_models"), anyway=t("load_anyway"))
    assert way in states(t, Told(QWEN).told(State.FAILED, detail=str(refusal)))
    assert way not in states(t, Told(QWEN).told(State.FAILED, detail="no weights"))


def test_what_a_model_calls_itself_stays_text(t: Texts) -> None:
    hostile = replace(QWEN, title="<img src=x onerror=alert(1)>", key="<b>", sources=())
    assert "<img" not in model_markup.table(t, [Told(hostile)], operator=True)
    fit = Fit((("<img>", 0),), 0)
    assert "<img" not in model_markup.states(t, [Told(hostile)], fit)
    assert "<img" not in model_markup.found(t, [hostile], fit)


async def test_models_of_a_pack_are_ready_and_need_no_memory(t: Texts) -> None:
    backends = [RecordedModel(model, "int4") for model in (QWEN, CHATGLM)]
    for backend in backends:
        await backend.start()
    html = model_markup.states(t, backends, Fit((("a", 0), ("b", 0)), 4 * GB))
    assert html.count(t("state_ready")) == 2
    assert html.count(t("need_recorded")) == 2
    assert "GB" not in html
