"""ChatGLM's chat format: what goes around the messages, and what is done to an answer.

Text only; ``tokenizer`` makes ids of it.
"""

from __future__ import annotations

import re

from backends.server.conversation import Conversation

MARKS = ((",", "，"), ("!", "！"), (":", "："), (";", "；"), ("?", "？"))
TRAINING_TIME = "[[训练时间]]"


def build_prompt(conversation: Conversation) -> str:
    """The prompt of a conversation: the bare question at first, numbered rounds afterwards.

    The original knows no system role: a system text stands on a line of its own in front.
    """
    system = "" if conversation.system is None else f"{conversation.system}\n"
    if not conversation.rounds:
        return system + conversation.question
    said = "".join(
        f"[Round {number}]\n问：{question}\n答：{answer}\n"
        for number, (question, answer) in enumerate(conversation.rounds)
    )
    last = len(conversation.rounds)
    return f"{system}{said}[Round {last}]\n问：{conversation.question}\n答："


def punctuate(text: str) -> str:
    """ASCII marks beside a Chinese character become the full-width marks they once were.

    The tokenizer's normalisation makes full-width marks ASCII; this is the way back. Also fills
    the placeholder that the model was trained to say instead of its date of training.
    """
    text = text.replace(TRAINING_TIME, "2023年")
    for ascii_mark, wide_mark in MARKS:
        text = re.sub(rf"([\u4e00-\u9fff])\{ascii_mark}", rf"\1{wide_mark}", text)
        text = re.sub(rf"\{ascii_mark}([\u4e00-\u9fff])", rf"{wide_mark}\1", text)
    return text


def process_response(text: str) -> str:
    """A decoded answer as it is shown: stripped, with Chinese punctuation."""
    return punctuate(text.strip())
