from __future__ import annotations

import msgspec
import pytest

from opportune.audiences.diagnostics import Unreadable
from opportune.audiences.paths import PATH_KEYS_MAX, keys_of, path_of
from opportune.audiences.schema import Path


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("plan", Path("properties", ("plan",))),
        ("cart.items.sku", Path("properties", ("cart", "items", "sku"))),
        ("properties.plan", Path("properties", ("plan",))),
        ("context.page.url", Path("context", ("page", "url"))),
        ("traits.plan", Path("traits", ("plan",))),
        ("context", Path("properties", ("context",))),
        ("cart.context", Path("properties", ("cart", "context"))),
        ("$value", Path("properties", ("$value",))),
        ("a b", Path("properties", ("a b",))),
    ],
)
def test_where_a_path_starts(text: str, path: Path) -> None:
    assert path_of(text) == path


@pytest.mark.parametrize(
    "text", ["", ".", "a.", ".a", "a..b", "a. .b", 'a"b', "a\\b", "a\nb", ".".join("a" * (PATH_KEYS_MAX + 1))]
)
def test_what_is_no_path(text: str) -> None:
    with pytest.raises(Unreadable):
        keys_of(text)


@pytest.mark.parametrize("code", range(256))
def test_a_key_that_is_read_is_one_that_a_decoder_can_look_for(code: int) -> None:
    text = f"a{chr(code)}b"
    try:
        keys = keys_of(text)
    except Unreadable:
        return
    kind = msgspec.defstruct(
        "Kind", [(f"p{at}", int, 0) for at in range(len(keys))], rename={f"p{at}": key for at, key in enumerate(keys)}
    )
    assert msgspec.json.decode(msgspec.json.encode(dict.fromkeys(keys, 5)), type=kind).p0 == 5  # type: ignore[attr-defined]  # made above
