"""What models may compute in, and the order in which somebody wants it.

What a checkpoint's weights allow, only its server knows; how much memory it takes, `memory`.
"""

PRECISIONS = ("float32", "bfloat16", "int8", "int4")


def precision_order(text: str) -> tuple[str, ...]:
    """Return the precisions named in `text`, parted by commas, in their order.

    Raises:
        ValueError: One isn't known, or none is named; says which are.
    """
    wanted = tuple(name.strip().lower() for name in text.split(","))
    if not set(wanted) <= set(PRECISIONS):
        raise ValueError(
            f"Precisions are given as one or more of {','.join(PRECISIONS)}, not {text!r}."
        )
    return wanted
