from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backends.catalog import MODELS
from rating.blinding import MASK, NameMask, Pace, Progress, SharedPace
from tests.paths import TINY

NAMES = sorted({name for model in MODELS.values() for name in model.names})
CORPUS = TINY / "corpus"


def masked(*pieces: str, names: Sequence[str] = NAMES) -> str:
    """What is shown of an answer that comes in these pieces."""
    mask = NameMask(names)
    return "".join([*map(mask.feed, pieces), mask.close()])


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_masked_in_any_case_and_width(name: str) -> None:
    wide = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in name)
    for spelling in (name, name.upper(), name.lower(), wide, wide.lower()):
        assert masked(f"我是{spelling}。") == f"我是{MASK}。"
        assert masked(f"I am {spelling}, hello") == f"I am {MASK}, hello"


@pytest.mark.parametrize(
    "spelling",
    [
        *("Chat GLM", "Chat-GLM", "Chat_GLM", "Chat.GLM", "chat  -glm", "C h a t G L M"),
        *("Chat·GLM", "Chat**GLM", "Chat`GLM", "Chat*GLM", "Chat~~GLM", "Chat\\_GLM", "Chat’GLM"),
        *("Chat\u200bGLM", "Ch\u200d\u200batGLM", "Chat\u00adGLM", "Chat\ufeffGLM"),
        *("Cha\ufe0ftGLM", "Chat\u2011GLM", "Chat—GLM", "Chat\u3000GLM", "Chat\u00a0GLM"),
        *("Chat\tGLM", "ＣｈａｔＧＬＭ", "Ｃｈａｔ　ＧＬＭ", "cHATglm", "𝐂𝐡𝐚𝐭𝐆𝐋𝐌"),
    ],
)
def test_joints_and_other_letters_hide_no_name(spelling: str) -> None:
    assert masked(f"我是{spelling}。", names=["ChatGLM"]) == f"我是{MASK}。"


@pytest.mark.parametrize("spelling", ["通义 千问", "通义-千问", "**通义**千问", "通\u200b义千问"])
def test_joints_hide_no_chinese_name(spelling: str) -> None:
    assert MASK in masked(spelling, names=["通义千问"])
    assert "千" not in masked(spelling, names=["通义千问"])


def test_a_mask_is_the_same_for_every_name() -> None:
    assert {masked(name) for name in NAMES} == {MASK}


def test_the_longest_name_is_the_one_that_is_masked() -> None:
    assert masked("通义千问", names=["通义", "千问", "通义千问"]) == MASK
    assert masked("Tongyi Qianwen!", names=["Tongyi", "Tongyi Qianwen"]) == f"{MASK}!"


@pytest.mark.parametrize(
    "text",
    ["Qwen1.5-0.5B", "qwen2", "Qwen１．５", "ChatGLM2-6B", "ChatGLM-6b", "GLM-130B", "GLM4"],
)
def test_a_version_or_size_goes_with_the_name(text: str) -> None:
    assert masked(f"我是{text}。", names=["Qwen", "ChatGLM", "GLM"]) == f"我是{MASK}。"


def test_a_number_that_only_follows_a_name_stays() -> None:
    assert masked("Qwen 3 times. Qwen. 5", names=["Qwen"]) == f"{MASK} 3 times. {MASK}. 5"


@pytest.mark.parametrize("text", ["philosophy", "Sophi", "aphid", "phis", "dolphin", "PHIlip"])
def test_a_short_name_inside_a_word_stays(text: str) -> None:
    assert masked(text, names=["Phi"]) == text
    assert masked(*text, names=["Phi"]) == text


@pytest.mark.parametrize("text", ["Phi", "我是phi模型", "(PHI)", "phi-3", "Phi3", "p-h-i"])
def test_a_short_name_that_is_a_word_is_masked(text: str) -> None:
    assert MASK in masked(text, names=["Phi"])
    assert MASK in masked(*text, names=["Phi"])


def test_a_short_name_is_no_word_because_a_piece_ends_there() -> None:
    assert masked("so", "phi", "a", names=["Phi"]) == "sophia"
    assert masked("so ", "phi", "losophy", names=["Phi"]) == "so philosophy"


def test_a_longer_name_is_masked_inside_a_word() -> None:
    assert masked("MyChatGLMs", names=["ChatGLM"]) == f"My{MASK}s"


@pytest.mark.parametrize(
    "text",
    ["It is all a matter of taste.", "a gem made of glass", "wool more or less", "call a man"],
)
def test_letters_of_several_words_make_no_name(text: str) -> None:
    assert masked(text, names=["Llama", "Gemma", "OLMo"]) == text


def test_neighbours_on_two_lines_make_no_name() -> None:
    text = "- 交通\n- 义务\n\n飞流直下三千\n问君能有几多愁\nChat\nGLM2 Q\nwen"
    assert masked(text, names=["通义", "千问", "ChatGLM", "Qwen"]) == text


def test_an_unfinished_name_at_the_end_is_shown_after_all() -> None:
    mask = NameMask(["ChatGLM"])
    assert mask.feed("我是Chat") == "我是"
    assert mask.close() == "Chat"
    assert not mask.found


def test_only_what_may_become_a_name_is_held_back() -> None:
    mask = NameMask(["ChatGLM"])
    assert mask.feed("我是C") == "我是"
    assert mask.feed("h") == ""
    assert mask.feed("ina人") == "China人"
    assert mask.feed("，C") == "，"


def test_what_is_held_back_stays_short() -> None:
    mask = NameMask(NAMES)
    fed = shown = ""
    for piece in ["Chat", "---", "GPT-", "0.1", "23" * 50, "q", "w" * 50, " " * 50] * 5:
        fed += piece
        shown += mask.feed(piece)
        assert len(fed) - len(shown.replace(MASK, "x" * 5)) < 80


def test_found_says_whether_anything_was_masked() -> None:
    mask = NameMask(["Qwen"])
    mask.feed("我是Qw")
    assert not mask.found
    mask.feed("en。")
    assert mask.found


def test_without_names_everything_is_shown_at_once() -> None:
    mask = NameMask([])
    assert mask.feed("Qwen") == "Qwen"
    assert mask.close() == ""
    assert masked("Qwen", names=["", " ", "-"]) == "Qwen"


def test_a_name_is_taken_literally() -> None:
    assert masked("axb aXb a.b", names=["a+b|.*[x](y)"]) == "axb aXb a.b"
    assert masked("see a+b|.*[x](y)!", names=["a+b|.*[x](y)"]) == f"see {MASK}!"


def test_a_long_answer_in_one_piece_is_masked_in_good_time() -> None:
    text = "Chat-GPT and Qwen " * 5_000
    assert masked(text) == f"{MASK} and {MASK} " * 5_000


def test_no_answer_of_the_corpus_is_spoiled() -> None:
    answers = [
        turn["answer"]
        for file in sorted(CORPUS.glob("*.yaml"))
        for dialogue in yaml.safe_load(file.read_text(encoding="utf-8"))
        if isinstance(dialogue, dict)  # the slots are no dialogues
        for turn in dialogue["turns"]
    ]
    assert len(answers) > 500
    assert [answer for answer in answers if masked(answer) != answer] == []


@pytest.mark.parametrize(
    "text",
    [
        "机器学习是人工智能的一个分支，谷歌、百度、腾讯、阿里和微软都在用，也可解释（XAI）。",
        "盘古开天，夸父逐日；商汤灭夏。书生意气，海纳百川，阿里山的姑娘美如水。他考上了清华。",
        "穆罕默德·阿里是拳王。小冰和小明一共有8个苹果。天工开物是宋应星写的。",
        "A palm tree, a falcon on granite, moss in bloom, a keg of beer, an alpaca from Peru.",
        "Meta-analysis of metal and metaphor: the opening command returned a coherent answer.",
        "The minimax algorithm; Bernie and Dolly; the co-pilot saw Gemini. pi, phi and yi. NVIDIA.",
    ],
)
def test_everyday_content_is_not_spoiled(text: str) -> None:
    assert masked(text) == text


FRAGMENTS = st.one_of(
    st.sampled_from(NAMES),
    st.sampled_from(NAMES).map(lambda name: name[: len(name) // 2 + 1]),
    st.sampled_from(NAMES).map(lambda name: name[-2:]),
    st.sampled_from([" ", "-", "**", "\u200b", "\n", "_", ".", "1", "0.5", "b", "B", "、", "a"]),
    st.text(max_size=3),
)
TEXTS = st.lists(FRAGMENTS, max_size=12).map("".join)


@given(text=TEXTS, cuts=st.lists(st.integers(0, 200), max_size=30))
@example(text="bcd abx", cuts=[3, 6])
@settings(max_examples=250)
def test_what_is_shown_never_depends_on_where_the_pieces_were_cut(
    text: str, cuts: list[int]
) -> None:
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    names = [*NAMES, "ab", "bcdabx", "abcd"]
    whole = masked(text, names=names)
    assert masked(*(text[a:b] for a, b in pairwise(places)), names=names) == whole
    assert masked(*text, names=names) == whole


@given(pieces=st.lists(st.text(max_size=8), max_size=8), names=st.lists(st.text(max_size=5)))
@settings(max_examples=200)
def test_nothing_is_lost_and_nothing_added_where_nothing_is_masked(
    pieces: list[str], names: list[str]
) -> None:
    mask = NameMask(names)
    shown = "".join(map(mask.feed, pieces)) + mask.close()
    assert mask.found == (shown != "".join(pieces))


@given(before=TEXTS, name=st.sampled_from(NAMES), after=TEXTS)
@settings(max_examples=200)
def test_a_name_between_marks_is_masked_whatever_stands_around(
    before: str, name: str, after: str
) -> None:
    assert f"（{MASK}）" in masked(*f"{before}（{name}）{after}")


# --- one pace for both panes ----------------------------------------------------------------------


@dataclass(frozen=True)
class Speaker:
    """A model of constant speed: its first character comes at `first_s`; it may die or hang."""

    first_s: float
    chars_per_s: float
    length: int
    fails_s: float | None = None
    hangs: tuple[float, float] = (0.0, 0.0)  # from when, for how long

    def ready(self, now_s: float) -> int:
        since, hanging_s = self.hangs
        now_s -= min(max(now_s - since, 0.0), hanging_s)
        if now_s < self.first_s - 1e-6:
            return 0
        return min(self.length, 1 + int((now_s - self.first_s) * self.chars_per_s + 1e-6))


def played(*speakers: Speaker, reference: Pace | None = None) -> list[tuple[int, ...]]:
    """How many characters of each side are on the screen, ten times a second, up to the end.

    Checks what must hold at every moment.
    """
    pace, shown, frames = SharedPace(reference), 0, [tuple(0 for _ in speakers)]
    cut: dict[Speaker, int] = {}  # what a failed side had on the screen
    for tick in range(1, 200_000):
        now_s = tick / 10
        for speaker in speakers:
            failing = speaker.fails_s is not None and now_s >= speaker.fails_s
            if failing and speaker.ready(now_s) < speaker.length:
                cut.setdefault(speaker, min(speaker.ready(now_s), shown))
        sides = [
            Progress(cut[s], ended=True)
            if s in cut
            else Progress(s.ready(now_s), ended=s.ready(now_s) == s.length)
            for s in speakers
        ]
        before, shown = shown, pace.advance(sides, now_s)
        assert shown >= before
        assert all(side.ended or shown <= side.ready for side in sides)
        frames.append(tuple(min(shown, side.ready) for side in sides))
        if all(side.ended and side.ready <= shown for side in sides):
            return frames
    pytest.fail("not everything was shown at the end")


FAST, SLOW = (0.3, 200.0), (2.0, 10.0)
PAIRS = [(FAST, SLOW), ((0.3, 40.0), (0.4, 10.0))]
ODD_PAIRS = [((3.0, 200.0), (0.5, 10.0)), (FAST, (9.0, 100.0))]
LENGTHS = [(30, 100), (100, 30), (60, 60), (20, 400), (400, 20), (300, 299)]
Speed = tuple[float, float]


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("lengths", LENGTHS)
def test_the_same_is_shown_whichever_side_is_the_fast_one(
    pair: tuple[Speed, Speed], lengths: tuple[int, int]
) -> None:
    (fast, slow), (left, right) = pair, lengths
    one = played(Speaker(*fast, left), Speaker(*slow, right))
    other = played(Speaker(*slow, left), Speaker(*fast, right))
    assert len(one) > 10
    assert one == other


@pytest.mark.parametrize("pair", PAIRS + ODD_PAIRS)
@pytest.mark.parametrize("lengths", LENGTHS)
def test_the_same_is_shown_once_the_usual_pace_is_known(
    pair: tuple[Speed, Speed], lengths: tuple[int, int]
) -> None:
    (fast, slow), (left, right) = pair, lengths
    usual = Pace.slowest([Pace(*fast), Pace(*slow)])
    one = played(Speaker(*fast, left), Speaker(*slow, right), reference=usual)
    other = played(Speaker(*slow, left), Speaker(*fast, right), reference=usual)
    assert len(one) == len(other)
    for frame, same in zip(one, other, strict=True):
        assert all(abs(a - b) <= 1 for a, b in zip(frame, same, strict=True))  # whole characters


@pytest.mark.parametrize("lengths", [(1, 50), (50, 1), (1, 1), (3, 200), (200, 3), (2, 9)])
def test_the_same_is_shown_of_answers_too_short_to_be_measured(lengths: tuple[int, int]) -> None:
    left, right = lengths
    one = played(Speaker(*FAST, left), Speaker(*SLOW, right), reference=Pace(*SLOW))
    other = played(Speaker(*SLOW, left), Speaker(*FAST, right), reference=Pace(*SLOW))
    assert one == other


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("fails_s", [0.1, 1.0, 2.1, 4.0])
def test_the_same_is_shown_when_a_side_fails_whichever_is_the_fast_one(
    lengths: tuple[int, int], fails_s: float
) -> None:
    left, right = lengths
    one = played(Speaker(*FAST, 10_000, fails_s), Speaker(*SLOW, right), reference=Pace(*SLOW))
    other = played(Speaker(*SLOW, 10_000, fails_s), Speaker(*FAST, right), reference=Pace(*SLOW))
    assert one == other
    mirrored = played(Speaker(*FAST, left), Speaker(*SLOW, 10_000, fails_s), reference=Pace(*SLOW))
    other = played(Speaker(*SLOW, left), Speaker(*FAST, 10_000, fails_s), reference=Pace(*SLOW))
    assert mirrored == other


@pytest.mark.parametrize("length", [1, 30, 300])
def test_a_side_asked_again_is_shown_alike_whether_it_is_the_fast_one(length: int) -> None:
    fast = played(Speaker(*FAST, length), reference=Pace(*SLOW))
    assert fast == played(Speaker(*SLOW, length), reference=Pace(*SLOW))
    assert [shown for (shown,) in fast].index(1) >= 20  # two seconds, as the slow one would take


def test_what_a_failed_side_had_not_shown_is_never_shown() -> None:
    frames = played(Speaker(0.1, 500.0, 10_000, fails_s=4.0), Speaker(*SLOW, 100))
    assert frames[-1][0] == frames[39][0] < 30
    assert frames[-1][1] == 100


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("lengths", LENGTHS)
def test_both_panes_start_together_and_keep_step(
    pair: tuple[Speed, Speed], lengths: tuple[int, int]
) -> None:
    shortest = min(lengths)
    for left, right in played(Speaker(*pair[0], lengths[0]), Speaker(*pair[1], lengths[1])):
        assert bool(left) == bool(right)
        assert left == right or min(left, right) == shortest


@pytest.mark.parametrize("reference", [None, Pace(*SLOW)])
@pytest.mark.parametrize("lengths", [(30, 300), (100, 101), (60, 1_000), (300, 30)])
def test_the_rest_comes_no_faster_than_what_both_sides_had(
    lengths: tuple[int, int], reference: Pace | None
) -> None:
    for left, right in [(FAST, SLOW), (SLOW, FAST)]:
        frames = played(
            Speaker(*left, lengths[0]), Speaker(*right, lengths[1]), reference=reference
        )
        shown = [max(frame) for frame in frames]
        start = next(n for n, count in enumerate(shown) if count)
        end = next(n for n, count in enumerate(shown) if count >= min(lengths))
        before = (shown[end] - shown[start]) / (end - start)
        after = max(b - a for a, b in pairwise(shown[end:]))
        assert after <= before + 1  # whole characters


def test_there_is_a_little_in_reserve_so_that_bursts_dont_show() -> None:
    """A side that says ten characters at once every second is shown without its rhythm."""
    pace, counts = SharedPace(None), []
    for tick in range(1, 300):
        ready = 10 * (1 + tick // 10)
        counts.append(pace.advance([Progress(ready, False), Progress(10_000, False)], tick / 10))
    steps = [b - a for a, b in pairwise(counts[100:])]
    assert set(steps) == {0, 1} or set(steps) == {1} or set(steps) == {1, 2}


def test_a_model_that_hung_for_minutes_doesnt_slow_down_the_rest_as_much() -> None:
    hung = Speaker(1.0, 10.0, 11, hangs=(1.5, 300.0))
    frames = played(hung, Speaker(*FAST, 500), reference=Pace(1.0, 10.0))
    assert len(frames) < 10 * (301 + 500 / 5 + 2)
    assert played(hung, Speaker(*FAST, 500))[-1] == (11, 500)


def test_nothing_is_shown_while_one_side_has_nothing() -> None:
    pace = SharedPace(None)
    for tick in range(1, 1_000):
        assert pace.advance([Progress(500, True), Progress(0, False)], tick / 10) == 0


def test_two_sides_that_fail_with_nothing_end_at_once() -> None:
    assert played(Speaker(5.0, 1.0, 9, fails_s=0.1), Speaker(6.0, 1.0, 9, fails_s=0.1)) == [
        (0, 0),
        (0, 0),
    ]


SPEAKERS = st.builds(
    Speaker,
    first_s=st.sampled_from([0.0, 0.1, 0.7, 5.0]),
    chars_per_s=st.sampled_from([0.5, 3.0, 30.0, 1_000.0]),
    length=st.integers(1, 200),
    fails_s=st.none() | st.sampled_from([0.1, 1.0, 6.0]),
    hangs=st.just((0.0, 0.0)) | st.tuples(st.floats(0.0, 9.0), st.floats(0.0, 20.0)),
)


@given(
    speakers=st.lists(SPEAKERS, min_size=1, max_size=2, unique=True),
    reference=st.none() | st.builds(Pace, st.floats(0.0, 10.0), st.floats(0.5, 500.0)),
)
@settings(max_examples=100)
def test_every_moment_keeps_the_rules_whatever_the_models_do(
    speakers: list[Speaker], reference: Pace | None
) -> None:
    frames = played(*speakers, reference=reference)
    assert played(*reversed(speakers), reference=reference) == [frame[::-1] for frame in frames]


def test_the_slowest_of_paces_has_the_latest_start_and_the_slowest_growth() -> None:
    assert Pace.slowest([Pace(1.0, 9.0), Pace(2.0, 50.0)]) == Pace(2.0, 9.0)
    assert Pace.slowest([]) is None
