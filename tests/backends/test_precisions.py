import pytest

from backends.precisions import precision_order


def test_precisions_come_in_the_order_in_which_they_are_named() -> None:
    assert precision_order(" INT8,float32") == ("int8", "float32")


@pytest.mark.parametrize("text", ["", "int3", "int8,", "int8;int4"])
def test_what_is_no_precision_is_refused_with_those_there_are(text: str) -> None:
    with pytest.raises(ValueError, match="float32,bfloat16,int8,int4"):
        precision_order(text)
