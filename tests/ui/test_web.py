"""The web application around the pages: cookie, language, headers, health, named endpoints.

The models are two endpoints that nobody serves: no page needs them to be there.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import gradio as gr
import pytest
import pytest_asyncio
from fastapi import FastAPI
from fastapi.testclient import TestClient

from db import Database
from tests.paths import ROOT
from tests.ui.conftest import lineup_of_nobody, pages_over
from ui.pages import PATHS
from ui.visitor import COOKIE
from ui.web import build_app

NAMES = ("Hidden-Qwen", "Hidden-ChatGLM")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    opened = Database.open(f"sqlite:///{tmp_path_factory.mktemp('web')}/twopane.db")
    yield opened
    opened.close()


class Parts:
    """What works, as the app is told."""

    working = True


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pages(database: Database) -> gr.Blocks:
    """The pages; made in a running loop, since Gradio would leave loops of its own behind."""
    return pages_over(database, lineup_of_nobody(*NAMES))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(pages: gr.Blocks) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.sleep(0)
        yield

    async def ready() -> dict[str, bool]:
        return {"database": Parts.working}

    return build_app(pages, PATHS, lifespan=lifespan, ready=ready)


@pytest.fixture
def visitor(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, base_url="http://twopane.test") as client:
        yield client


@pytest.mark.parametrize("path", PATHS)
def test_a_page_gives_a_new_visitor_an_id_that_scripts_can_t_read(
    visitor: TestClient, path: str
) -> None:
    cookie = visitor.get(path).headers["set-cookie"]
    assert re.match(rf"{COOKIE}=[0-9a-f]{{32}}; .*HttpOnly; SameSite=Lax$", cookie)


def test_behind_https_the_id_works_in_a_frame_of_another_site(visitor: TestClient) -> None:
    response = visitor.get("/", headers={"X-Forwarded-Proto": "https"})
    assert response.headers["set-cookie"].endswith("SameSite=None; Secure; Partitioned")


def test_a_known_visitor_keeps_the_id(visitor: TestClient) -> None:
    visitor.get("/")
    assert "set-cookie" not in visitor.get("/").headers


def test_an_id_that_we_can_t_have_given_is_replaced(visitor: TestClient) -> None:
    response = visitor.get("/", headers={"Cookie": f"{COOKIE}=../../etc"})
    assert "set-cookie" in response.headers


def test_a_page_speaks_the_browser_s_language_from_the_first_byte(visitor: TestClient) -> None:
    html = visitor.get("/", headers={"Accept-Language": "zh-CN,en;q=0.5"}).text
    assert 'lang="zh"' in html
    assert '"zh-CN"' in html.split("</script>")[0]
    assert html.index("navigator") < html.index("gradio_config")


@pytest.mark.parametrize("path", [*PATHS, "/config", "/healthz", "/twopane/panel.js"])
def test_every_response_keeps_the_browser_from_other_hosts(visitor: TestClient, path: str) -> None:
    response = visitor.get(path)
    policy = response.headers["content-security-policy"]
    assert response.status_code == 200
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", [*PATHS, "/config", "/gradio_api/info"])
def test_no_model_is_named_before_a_rating(visitor: TestClient, path: str) -> None:
    said = visitor.get(path).text.lower()
    for hidden in ("qwen", "chatglm", "127.0.0.1:9"):
        assert hidden not in said


def test_a_page_is_whole_although_our_head_made_it_longer(visitor: TestClient) -> None:
    response = visitor.get("/", headers={"Accept-Encoding": "br, gzip"})
    assert int(response.headers["content-length"]) == len(response.content)
    assert response.text.rstrip().endswith("</html>")


def test_health_says_that_the_process_is_up(visitor: TestClient) -> None:
    assert visitor.get("/healthz").json() == {"status": "up"}


def test_readiness_says_which_part_does_not_work(
    visitor: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert visitor.get("/readyz").status_code == 200
    monkeypatch.setattr(Parts, "working", False)
    response = visitor.get("/readyz")
    assert (response.status_code, response.json()) == (503, {"database": False})


def test_exactly_the_named_endpoints_are_public(visitor: TestClient) -> None:
    info = visitor.get("/gradio_api/info").json()
    assert set(info["named_endpoints"]) == {
        *("/new_trial", "/ask", "/stop", "/retry", "/rate", "/summary")
    }
    assert info["unnamed_endpoints"] == {}


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/monitoring", "/openapi.json"])
def test_what_nobody_needs_is_switched_off(visitor: TestClient, path: str) -> None:
    assert visitor.get(path).status_code in (403, 404)


def test_no_page_names_another_host_to_fetch_from() -> None:
    folder = ROOT / "ui"
    for file in [*folder.glob("static/*"), *folder.glob("templates/*")]:
        found = set(re.findall(r"https?://[\w.]+", file.read_text(encoding="utf-8")))
        assert found <= {"http://www.w3.org"}, file


@pytest.mark.parametrize(
    "path",
    [
        *("/gradio_api/upload", "/gradio_api/deep_link", "/gradio_api/openapi.json"),
        *("/gradio_api/vibe-edit/", "/gradio_api/proxy=http://example.com/"),
    ],
)
def test_routes_that_take_in_files_or_fetch_are_closed(visitor: TestClient, path: str) -> None:
    assert visitor.get(path).status_code == 404
    assert visitor.post(path, json={}).status_code == 404


def test_a_body_that_is_too_long_is_refused_unread(visitor: TestClient) -> None:
    assert visitor.post("/gradio_api/queue/join", content=b"x" * 1_000_001).status_code == 413


def test_a_body_of_unknown_length_is_refused(visitor: TestClient) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"{}"

    assert visitor.post("/gradio_api/queue/join", content=chunks()).status_code == 411


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/"])
def test_monitors_may_ask_with_head(visitor: TestClient, path: str) -> None:
    assert visitor.head(path).status_code == 200


def test_the_page_names_the_version_of_its_script_and_style(visitor: TestClient) -> None:
    html = visitor.get("/").text
    files = re.findall(r"/twopane/(?:panel\.js|stream\.js|page\.css)\?[0-9a-f]{8}", html)
    assert len(files) == 3
    assert html.index("/twopane/stream.js") < html.index('type="module"')  # before Gradio's own
    assert all(visitor.get(file).status_code == 200 for file in files)


def test_many_watching_raters_keep_nobody_from_saving(pages: gr.Blocks) -> None:
    assert pages.max_threads >= 500
    assert pages._queue.max_thread_count >= 500
