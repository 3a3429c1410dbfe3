import pytest

from backends.names import COMMON_NAMES, names_of


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", ["meta-llama/Llama-3.1-8B-Instruct", "Llama"]),
        ("gemma2:9b-q4_0", ["gemma2:9b-q4_0", "gemma2", "Gemma"]),
        ("Hermes-3-Llama-3.2-3B.Q4_K_M.gguf", ["Hermes-3-Llama-3.2-3B.Q4_K_M.gguf", "Hermes"]),
        ("星辰-7b-对话", ["星辰-7b-对话", "星辰"]),
    ],
)
def test_the_telling_pieces_of_a_name_are_names(name: str, own: list[str]) -> None:
    assert list(names_of(name)[: len(own)]) == own


@pytest.mark.parametrize(
    "name",
    ["model", "my_model-v2", "checkpoint-1000", "7b-chat-int4", "测试", "a", "", "最终-模型"],
)
def test_ordinary_words_give_nothing_away(name: str) -> None:
    assert set(names_of(name)) <= {*COMMON_NAMES, "最终", "最终-模型"}


def test_well_known_names_are_always_among_them() -> None:
    known = {name.casefold() for name in names_of("anything")}
    assert {"qwen", "chatglm", "llama", "chatgpt", "claude", "deepseek", "kimi", "豆包"} <= known
    assert {"阿里巴巴", "达摩院", "智谱", "清华大学"} <= known  # the makers of the two families


@pytest.mark.parametrize(
    "word",
    [
        *("Google", "谷歌", "微软", "华为", "腾讯", "百度", "字节跳动", "IBM", "英伟达", "Meta"),
        *("阿里", "清华", "复旦", "盘古", "书生", "文心", "天工", "小冰", "百川", "商汤"),
        *("palm", "bloom", "moss", "falcon", "granite", "alpaca", "gemini", "copilot", "keg"),
        *("coherent", "command", "minimax", "phi", "yi", "xai", "bard", "dolly"),
    ],
)
def test_words_with_an_everyday_meaning_are_no_names(word: str) -> None:
    assert word.casefold() not in {name.casefold() for name in names_of("anything")}


def test_no_name_is_listed_twice_or_empty() -> None:
    names = [name.casefold() for name in names_of("Qwen-qwen")]
    assert len(names) == len(set(names))
    assert all(name.strip() for name in names)
    assert len({name.casefold() for name in COMMON_NAMES}) == len(COMMON_NAMES)
