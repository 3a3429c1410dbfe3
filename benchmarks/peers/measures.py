"""What is measured, and which goals it has to meet: two contenders' answers and their ratio.

Only says what is to be run and how a ratio comes about; runs nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

OWN_INT8 = "Twopane, Qwen int8"
OWN_INT4 = "Twopane, Qwen int4"
OWN_CHATGLM = "Twopane, ChatGLM int4"
OWN_ENGINE = "Twopane's engine, Qwen int8"
LLAMA_Q8_0 = "llama.cpp, Qwen Q8_0"
LLAMA_Q4_0 = "llama.cpp, Qwen Q4_0"
CHATGLM_CPP = "chatglm.cpp, ChatGLM q4_0"
READER = "reading memory"
BROWSER = "browser, Qwen int8"

PER_S = "tokens/s"
SECONDS = "s"
GB_PER_S = "GB/s"

_QWEN_LAYERS = 24 * (4 * 1024 * 1024 + 3 * 1024 * 2816)
_QWEN_HEAD = 151936 * 1024
_CHATGLM_LAYERS = 28 * 12 * 4096 * 4096
_CHATGLM_HEAD = 130528 * 4096
_GROUPS_OF_32 = (4 + 16 / 32) / 8  # a scale in float16 for each group

QWEN_INT8_BYTES = _QWEN_LAYERS + _QWEN_HEAD
"""The weights that one step reads; the rows' scales are less than a thousandth of it."""
QWEN_INT4_BYTES = round(_QWEN_LAYERS * _GROUPS_OF_32) + _QWEN_HEAD
"""The head, which is the embedding, in 8 bits."""
CHATGLM_INT4_BYTES = _CHATGLM_LAYERS // 2 + _CHATGLM_HEAD
"""Layers in 4 bits, the head in 8."""


@dataclass(frozen=True)
class Sample:
    """One thing that one contender is asked.

    Attributes:
        contender: Its name.
        command: A line of the protocol.
        unit: Of the answer.
        slow: Whether it takes minutes with the slower contender.
    """

    contender: str
    command: str
    unit: str = PER_S
    slow: bool = False


@dataclass(frozen=True)
class Measure:
    """A ratio between two samples of the same round.

    Attributes:
        key: By which it is chosen on the command line; its first word is the group of measures
            whose contenders are in memory at the same time.
        title: What the report calls it.
        first: What is measured.
        second: What it is compared with.
        least: The goal, if the ratio has to be at least so much.
        most: The goal, if the ratio may be at most so much.
        factor: What the ratio is multiplied by.
    """

    key: str
    title: str
    first: Sample
    second: Sample
    least: float | None = None
    most: float | None = None
    factor: float = 1.0

    @property
    def group(self) -> str:
        """What it is run together with."""
        return self.key.partition("-")[0]

    @property
    def goal(self) -> str:
        """The goal in words."""
        if self.least is not None:
            return f"at least {self.least:g}"
        return f"at most {self.most:g}"

    def met(self, ratio: float) -> bool:
        """Whether a ratio meets the goal."""
        return (self.least is None or ratio >= self.least) and (
            self.most is None or ratio <= self.most
        )

    def ratio(self, first: float, second: float) -> float:
        """The ratio of two answers."""
        return self.factor * first / second


def measures() -> list[Measure]:
    """All measures, in the order in which they are run."""
    return [*_qwen(), *_chatglm(), *_engine(), _app()]


def chosen(every: Sequence[Measure], words: Sequence[str]) -> list[Measure]:
    """The measures whose key contains one of the words; all if there are no words."""
    return [one for one in every if not words or any(word in one.key for word in words)]


def _qwen() -> list[Measure]:
    found = []
    for precision, own, peer, least, bandwidth, size in (
        ("int8", OWN_INT8, LLAMA_Q8_0, 1.3, 0.8, QWEN_INT8_BYTES),
        ("int4", OWN_INT4, LLAMA_Q4_0, 1.4, 0.7, QWEN_INT4_BYTES),
    ):
        decode = Sample(own, "decode 64")
        found += [
            Measure(
                f"qwen-decode-{precision}",
                f"Qwen {precision}, decode, against {peer}",
                decode,
                Sample(peer, "decode 64"),
                least=least,
            ),
            _bandwidth(f"qwen-bandwidth-{precision}", f"Qwen {precision}", decode, bandwidth, size),
            *(
                Measure(
                    f"qwen-first-{tokens}-{precision}",
                    f"Qwen {precision}, first token after {tokens}, against {peer}",
                    Sample(own, f"prefill {tokens}", SECONDS),
                    Sample(peer, f"prefill {tokens}", SECONDS),
                    most=1.0,
                )
                for tokens in (32, 512, 2048)
            ),
        ]
    return found


def _chatglm() -> list[Measure]:
    decode = Sample(OWN_CHATGLM, "decode 16")
    return [
        Measure(
            "chatglm-decode",
            f"ChatGLM-6B int4, decode, against {CHATGLM_CPP}",
            decode,
            Sample(CHATGLM_CPP, "decode 16"),
            least=4.0,
        ),
        _bandwidth("chatglm-bandwidth", "ChatGLM-6B int4", decode, 0.8, CHATGLM_INT4_BYTES),
        *(
            Measure(
                f"chatglm-first-{tokens}",
                f"ChatGLM-6B int4, first token after {tokens}, against {CHATGLM_CPP}",
                Sample(OWN_CHATGLM, f"prefill {tokens}", SECONDS, slow=tokens > 32),
                Sample(CHATGLM_CPP, f"prefill {tokens}", SECONDS, slow=tokens > 32),
                most=most,
            )
            for tokens, most in ((32, 0.4), (256, 0.15), (1024, 0.1))
        ),
    ]


def _bandwidth(key: str, what: str, decode: Sample, least: float, size: int) -> Measure:
    title = f"{what}, {size / 1e6:.0f} MB a token, against reading memory"
    reader = Sample(READER, f"read {size // 10**6}", GB_PER_S)
    return Measure(key, title, decode, reader, least=least, factor=size / 1e9)


def _engine() -> list[Measure]:
    return [
        Measure(
            "engine-crowd",
            "Qwen int8, 8 conversations at a time, all their tokens, against 1",
            Sample(OWN_ENGINE, "crowd 8 96"),
            Sample(OWN_ENGINE, "crowd 1 96"),
            least=4.0,
        ),
        Measure(
            "engine-turns",
            "Qwen int8, first token of turn 5, against turn 1 (150 tokens a turn)",
            Sample(OWN_ENGINE, "turn 5 150", SECONDS),
            Sample(OWN_ENGINE, "turn 1 150", SECONDS),
            most=1.5,
        ),
    ]


def _app() -> Measure:
    return Measure(
        "engine-app",
        "Qwen int8, two answers at a time in a browser through the app, against the bare engine",
        Sample(BROWSER, "through"),
        Sample(OWN_ENGINE, "crowd 2 512"),
        least=0.95,
    )
