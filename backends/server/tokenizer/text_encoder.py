"""Encodes text in which nothing that a person can write stands for a control token.

A twin of the checkpoint's tokenizer knows its control tokens by secret names only, so it finds them
nowhere but where this code put them. Everything else is the checkpoint's own way of encoding.
Knows no messages and no templates.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Container, Iterable, Mapping

from tokenizers import AddedToken, Tokenizer


class TextEncoder:
    """Encodes text, and control tokens where they are meant.

    Args:
        tokenizer: the checkpoint's own; stays as it is.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        added = tokenizer.get_added_tokens_decoder()
        secret = secrets.token_hex(16)
        names = {
            token.content: f"{secret}x{token_id}x"
            for token_id, token in added.items()
            if not _is_blank(token.content)
        }
        self._twin = _twin(tokenizer, names)
        # Its new ids follow the number of pieces: where some of the pieces' ids lie there, because
        # others are left out, the new ones have to be pushed behind them.
        gap = _taken(tokenizer, len(added))
        self._twin.add_tokens([f"{secret}gap{i}x" for i in range(gap)])
        self._twin.add_tokens([_named(token, names) for _, token in sorted(added.items())])
        self._restored = {
            self._twin.token_to_id(names.get(token.content, token.content)): token_id
            for token_id, token in added.items()
        }
        # A few are declared, but never found in running text.
        self._names = {
            content: name
            for content, name in names.items()
            if tokenizer.token_to_id(content) in self.encode(f" {name} ")
        }
        self._controls = any_of(self._names, _single_words(added.values()))

    def encode(self, text: str) -> list[int]:
        """The ids of text, whatever it looks like; control tokens only where it is ``armed``."""
        # `encode` would keep all other threads from running: 0.6 s for 840,000 characters.
        ids = self._twin.encode_batch([text], add_special_tokens=False)[0].ids
        return [self._restored.get(token, token) for token in ids]

    def armed(self, text: str) -> str:
        """The text with its strings of control tokens made what ``encode`` takes for them."""
        return self._controls.sub(lambda found: self._names[found[0]], text)


def any_of(words: Iterable[str], single: Container[str] = ()) -> re.Pattern[str]:
    """Matches any of the words, the longest first; without words it matches nothing.

    Args:
        words: what is looked for.
        single: which of them only count where no letter is beside them.
    """
    longest_first = sorted(words, key=len, reverse=True)
    patterns = (
        rf"(?<!\w){re.escape(word)}(?!\w)" if word in single else re.escape(word)
        for word in longest_first
    )
    return re.compile("|".join(patterns) or "(?!)")


def control_tokens(tokenizer: Tokenizer, *, special: bool = False) -> list[str]:
    """The strings of a tokenizer's control tokens: all, or those that it calls special.

    Runs of blanks are added to many vocabularies as well, but they are text.
    """
    added = tokenizer.get_added_tokens_decoder().values()
    return [t.content for t in added if (t.special or not special) and not _is_blank(t.content)]


def _taken(tokenizer: Tokenizer, wanted: int) -> int:
    """How many ids to skip behind the number of pieces so that the next ones are no pieces'."""
    model = tokenizer.model
    start = end = tokenizer.get_vocab_size(with_added_tokens=False)
    free = 0
    while free < wanted:
        free = free + 1 if model.id_to_token(end) is None else 0
        end += 1
    return end - wanted - start


def _is_blank(piece: str) -> bool:
    return not piece.replace("\u2581", " ").strip()


def _single_words(added: Iterable[AddedToken]) -> frozenset[str]:
    return frozenset(token.content for token in added if token.single_word)


def _named(token: AddedToken, names: Mapping[str, str]) -> AddedToken:
    return AddedToken(
        names.get(token.content, token.content),
        single_word=token.single_word,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        normalized=token.normalized,
        special=token.special,
    )


def _twin(tokenizer: Tokenizer, names: Mapping[str, str]) -> Tokenizer:
    """The same tokenizer without added tokens, unable to make those in ``names`` of text."""
    twin = Tokenizer(tokenizer.model)
    twin.normalizer = tokenizer.normalizer
    twin.pre_tokenizer = tokenizer.pre_tokenizer
    for content in names:
        if tokenizer.token_to_id(content) in twin.encode(content, add_special_tokens=False).ids:
            # Its model has the control tokens among its pieces (Unigram mostly). Takes a second.
            return _renamed(tokenizer, names)
    return twin


def _renamed(tokenizer: Tokenizer, names: Mapping[str, str]) -> Tokenizer:
    state = json.loads(tokenizer.to_str())
    model = state["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(piece, piece): i for piece, i in model["vocab"].items()}
    else:
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
    if model.get("unk_token") is not None:
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    return Tokenizer.from_str(json.dumps(state | {"added_tokens": [], "post_processor": None}))
