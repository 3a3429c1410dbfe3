"""The five dimensions of a rating: key, names, what 1, 3 and 5 mean, when one does not apply.

The keys are the published comparison's (its table 3.5); the anchors are ours, since it gives none.
Knows nothing of how scores are entered or stored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from db import Dimension

LOWEST, HIGHEST = 1, 5


@dataclass(frozen=True)
class Wording:
    """A dimension in one language.

    Attributes:
        name: Short name, as the published comparison has it.
        question: What a rater asks of each answer.
        anchors: What the scores 1, 3 and 5 mean.
    """

    name: str
    question: str
    anchors: Mapping[int, str]


def _wording(name: str, question: str, one: str, three: str, five: str) -> Wording:
    return Wording(name, question, MappingProxyType({1: one, 3: three, 5: five}))


WORDINGS: Mapping[Dimension, Mapping[str, Wording]] = MappingProxyType(
    {
        Dimension.UNDERSTANDING: {
            "zh": _wording(
                "语义理解准确性",
                "回答是否听懂了问题？",
                "答非所问",
                "大意听懂，漏掉了要点",
                "完全听懂，每个要求都照顾到",
            ),
            "en": _wording(
                "Semantic understanding",
                "Did the answer grasp what was asked?",
                "Misses the question",
                "Gets the gist, misses a point",
                "Grasps every part of the request",
            ),
        },
        Dimension.COHERENCE: {
            "zh": _wording(
                "回答连贯性",
                "前后是否通顺、一致？",
                "前言不搭后语",
                "基本通顺，偶有断裂",
                "自始至终通顺一致",
            ),
            "en": _wording(
                "Coherence",
                "Does it hold together from start to end?",
                "Falls apart or contradicts itself",
                "Mostly connected, with breaks",
                "Connected and consistent throughout",
            ),
        },
        Dimension.MEMORY: {
            "zh": _wording(
                "多轮对话记忆",
                "是否记得前面几轮说过的话？",
                "忘了前面说过的话",
                "记得一部分",
                "前面说过的都记得、用得上",
            ),
            "en": _wording(
                "Multi-turn memory",
                "Does it remember the earlier turns?",
                "Forgets what was said before",
                "Remembers some of it",
                "Remembers and uses all of it",
            ),
        },
        Dimension.NATURALNESS: {
            "zh": _wording(
                "中文表达自然度",
                "像母语者写的吗？",
                "生硬，不像人话",
                "读得懂，有些别扭",
                "像母语者一样自然",
            ),
            "en": _wording(
                "Natural language",
                "Does it read like a native speaker's?",
                "Stilted, not how people write",
                "Readable but awkward in places",
                "As natural as a native speaker",
            ),
        },
        Dimension.REASONING: {
            "zh": _wording(
                "逻辑推理能力",
                "推理是否正确、有依据？",
                "推理错误或没有推理",
                "部分正确，有跳步",
                "步步正确，结论可靠",
            ),
            "en": _wording(
                "Logical reasoning",
                "Is the reasoning sound?",
                "Wrong, or no reasoning at all",
                "Partly right, with leaps",
                "Every step sound, conclusion holds",
            ),
        },
    }
)


def can_be_scored(dimension: Dimension, turns: int) -> bool:
    """Whether a score makes sense after so many turns; if not, only "not applicable" does.

    Memory needs an earlier turn to remember.
    """
    return dimension is not Dimension.MEMORY or turns > 1
