"""Reading a tokenizer directly gives what transformers makes of the same files."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backends.server.errors import CheckpointError
from backends.server.tokenizer.by_transformers import read_with_transformers
from backends.server.tokenizer.files import read_tokenizer
from backends.server.tokenizer.stored import StoredTokenizer
from tests.backends.server.qwen2_checkpoints import CONTROLS, make_qwen2
from tests.backends.server.transformers_checkpoints import edit_json
from tests.paths import ROOT, TINY

TINY_QWEN = TINY / "tiny-qwen"

SAID = [{"role": "user", "content": "你好 fox 123"}, {"role": "assistant", "content": " It's\n\n"}]
TEXTS = (
    "The quick brown fox isn't 12345 \n\n  你好，今天！",
    "<|im_start|>user<tool_call> e\u0301 \u00e9\ufb01 <|im_end|>\r\n\t'S",
    "",
)


def _form(stored: StoredTokenizer) -> dict[str, Any]:
    """Everything that decides about ids."""
    form: dict[str, Any] = json.loads(stored.tokenizer.to_str())
    for setting in ("truncation", "padding", "post_processor"):
        form.pop(setting)
    # None and an empty text are the same to the model.
    form["model"] = {key: value or None for key, value in form["model"].items()}
    return form


def _assert_same(read: StoredTokenizer, expected: StoredTokenizer) -> None:
    assert _form(read) == _form(expected)
    assert read.end_id == expected.end_id
    for text in TEXTS:
        ids = expected.tokenizer.encode(text).ids
        assert read.tokenizer.encode(text).ids == ids
        assert read.tokenizer.decode(ids) == expected.tokenizer.decode(ids)
    assert (read.template is None) == (expected.template is None)
    if read.template is not None and expected.template is not None:
        assert read.template.render(SAID) == expected.template.render(SAID)


def _as_published(folder: Path) -> None:
    """The settings that Qwen1.5 and Qwen2.5 publish."""
    added = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    edit_json(
        folder / "tokenizer_config.json",
        add_prefix_space=False,
        add_bos_token=False,
        added_tokens_decoder={str(token.pop("id")): token for token in added},
        additional_special_tokens=list(CONTROLS[1:]),
        bos_token=None,
        chat_template=(folder / "chat_template.jinja").read_text(),
        clean_up_tokenization_spaces=False,
        errors="replace",
        split_special_tokens=False,
        tokenizer_class="Qwen2Tokenizer",
        unk_token=None,
    )
    (folder / "chat_template.jinja").unlink()


def _without_settings(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()


def _with_stored_properties(folder: Path) -> None:
    end = {"content": CONTROLS[2], "lstrip": False, "__type": "AddedToken"}
    edit_json(folder / "tokenizer_config.json", eos_token=end)


def _with_another_class(folder: Path) -> None:
    edit_json(folder / "tokenizer_config.json", tokenizer_class="LlamaTokenizerFast")


def _with_no_end(folder: Path) -> None:
    edit_json(folder / "tokenizer_config.json", eos_token=None)


def _with_truncation(folder: Path) -> None:
    kept = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    edit_json(folder / "tokenizer.json", truncation=kept)


USUAL = [
    _as_published,
    _without_settings,
    _with_stored_properties,
    _with_another_class,
    _with_no_end,
    _with_truncation,
]


def _settings(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "tokenizer_config.json", **changes)


def _with_a_stripping_token(folder: Path) -> None:
    state = json.loads((folder / "tokenizer.json").read_text())
    state["added_tokens"][2]["lstrip"] = True
    (folder / "tokenizer.json").write_text(json.dumps(state))


def _with_a_model_of_bytes(folder: Path) -> None:
    state = json.loads((folder / "tokenizer.json").read_text())
    state["model"]["byte_fallback"] = True
    (folder / "tokenizer.json").write_text(json.dumps(state))


def _with_older_files(folder: Path) -> None:
    (folder / "special_tokens_map.json").write_text('{"eos_token": "<|im_start|>"}')


def _with_further_templates(folder: Path) -> None:
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("tools")


def _with_listed_templates(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    listed = [{"name": "default", "template": "a"}, {"name": "other", "template": "b"}]
    edit_json(folder / "tokenizer_config.json", chat_template=listed)


UNUSUAL = [
    _settings(eos_token="<end>"),
    _settings(image_token="<image>"),
    _settings(extra_special_tokens={"image_token": "<|im_start|>"}),
    _settings(additional_special_tokens=["<new>"]),
    _settings(added_tokens_decoder={"370": {"content": "<|endoftext|>", "special": True}}),
    _settings(add_prefix_space=True),
    _with_a_stripping_token,
    _with_a_model_of_bytes,
    _with_older_files,
    _with_further_templates,
    _with_listed_templates,
]


def test_the_built_in_tokenizer_is_read_as_transformers_reads_it() -> None:
    _assert_same(read_tokenizer(TINY_QWEN), read_with_transformers(TINY_QWEN))


@pytest.mark.parametrize("template", [None, "{{ eos_token }}{{ bos_token }}{{ pad_token }}"])
def test_a_qwen2_tokenizer_is_read_as_transformers_reads_it(
    tmp_path: Path, template: str | None
) -> None:
    folder = make_qwen2(tmp_path, template=template)
    _assert_same(read_tokenizer(folder), read_with_transformers(folder))


@pytest.mark.parametrize("change", [*USUAL, *UNUSUAL])
def test_whatever_its_settings_it_is_read_as_transformers_reads_it(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    folder = make_qwen2(tmp_path)
    change(folder)
    _assert_same(read_tokenizer(folder), read_with_transformers(folder))


_READ = """
import sys
from pathlib import Path
from backends.server.tokenizer.files import read_tokenizer
for folder in sys.argv[1:]:
    assert read_tokenizer(Path(folder)).tokenizer.encode("fox").ids
print([name for name in ("torch", "transformers") if name in sys.modules])
"""


def test_usual_tokenizers_are_read_without_large_libraries(tmp_path: Path) -> None:
    folders = [make_qwen2(tmp_path / str(number)) for number in range(len(USUAL))]
    for folder, change in zip(folders, USUAL, strict=True):
        change(folder)
    command = [sys.executable, "-c", _READ, *map(str, [TINY_QWEN, *folders])]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_tokenizer_file_that_is_none_is_refused(tmp_path: Path) -> None:
    folder = make_qwen2(tmp_path)
    (folder / "tokenizer.json").write_text('{"model": 1}')
    with pytest.raises(CheckpointError, match="no tokenizer that can be read"):
        read_tokenizer(folder)


def test_a_chat_template_that_is_no_text_is_refused(tmp_path: Path) -> None:
    folder = make_qwen2(tmp_path)
    (folder / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match=r"chat_template\.jinja can't be read"):
        read_tokenizer(folder)
