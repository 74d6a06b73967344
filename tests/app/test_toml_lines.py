"""Every key of a TOML file is found on its line, however it is written."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from strandline.engine.app.toml_lines import line_of, locate

NASTY = """\
# [not.a.table]
title = "a = 1 # no comment"      # and = here

[repositories.main]
url = '''
[not.this]
key = "nor this"
'''
"quoted = \\"key\\"" = 1
'literal ] key' = 2
a.b . "c.d" = 3
text = \"\"\"one \\\"\"\"
  two = 2
three\"\"\"\"\"
after = 1

[sources . "with.dot"]
paths = [
    "a = 1",   # first
    # nothing
    "b ] c", [ 1,
    2 ],
    { x = 1, y.z = { w = "}" } },
]
when = 1979-05-27 07:32:00
secret = { env = "NAME", "file" = 'x' }

[[list]]
name = 1
[[list]]
name = 2
[list.below]
deep = 1
[[list.more]]
n = 1
[[list.more]]
n = 2

[a.implied.table]
x = 1
[a]
y = 2
"""

EXPECTED = {
    ("title",): 2,
    ("repositories",): 4,
    ("repositories", "main"): 4,
    ("repositories", "main", "url"): 5,
    ("repositories", "main", 'quoted = "key"'): 9,
    ("repositories", "main", "literal ] key"): 10,
    ("repositories", "main", "a", "b", "c.d"): 11,
    ("repositories", "main", "text"): 12,
    ("repositories", "main", "after"): 15,
    ("sources", "with.dot"): 17,
    ("sources", "with.dot", "paths", 0): 19,
    ("sources", "with.dot", "paths", 1): 21,
    ("sources", "with.dot", "paths", 2): 21,
    ("sources", "with.dot", "paths", 2, 1): 22,
    ("sources", "with.dot", "paths", 3, "y", "z", "w"): 23,
    ("sources", "with.dot", "when"): 25,
    ("sources", "with.dot", "secret", "file"): 26,
    ("list",): 28,
    ("list", 0): 28,
    ("list", 0, "name"): 29,
    ("list", 1): 30,
    ("list", 1, "name"): 31,
    ("list", 1, "below", "deep"): 33,
    ("list", 1, "more", 0, "n"): 35,
    ("list", 1, "more", 1, "n"): 37,
    ("a", "implied"): 39,
    ("a", "implied", "table", "x"): 40,
    ("a",): 41,
    ("a", "y"): 42,
}


@pytest.mark.parametrize("path", EXPECTED, ids=str)
def test_a_key_is_found_on_its_line(path):
    assert locate(NASTY)[path] == EXPECTED[path]


def test_windows_line_ends_count_once():
    assert line_of("a = 1\r\n\r\n[b]\r\nc = 1\r\n", ("b", "c")) == 4


def test_what_is_not_there_is_looked_for_in_what_encloses_it():
    assert line_of(NASTY, ("repositories", "main", "passphrase")) == 4
    assert line_of(NASTY, ("targets", "x")) == 1


def paths_of(value: Any, path: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    """Every path that the values have."""
    if isinstance(value, dict):
        below = value.items()
    elif isinstance(value, list):
        below = enumerate(value)
    else:
        return {path}
    return {path}.union(*(paths_of(one, (*path, key)) for key, one in below))


def test_nothing_is_found_that_is_not_there():
    assert set(locate(NASTY)) == paths_of(tomllib.loads(NASTY)) - {()}


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c >= " " and c != "\x7f" else f"\\u{ord(c):04x}" for c in escaped) + '"'


def multiline(text: str) -> str:
    inside = text.replace("\\", "\\\\").replace('"""', '""\\"').replace("\r", "\\r")
    return '"""' + "".join(c if c >= " " or c == "\n" else f"\\u{ord(c):04x}" for c in inside) + '"""'


TEXTS = st.text(st.sampled_from("a=[]{},.#'\"\\\n \t"), max_size=12)
KEYS = st.one_of(TEXTS.map(quoted), st.sampled_from(["bare", "bare-2", "'lit # = ['"]))
SCALARS = st.one_of(
    TEXTS.map(quoted),
    TEXTS.filter(lambda text: '"' not in text[-1:]).map(multiline),
    st.sampled_from(["1", "-2.5", "true", "1979-05-27 07:32:00", "'a # b'", "''''x'''''"]),
)
SPACE = st.sampled_from(["", " ", "\n", " # , ] }\n"])


@st.composite
def values(draw: Any, depth: int = 2) -> str:
    kind = draw(st.sampled_from(["scalar", "array", "table"])) if depth else "scalar"
    if kind == "array":
        items = [draw(values(depth=depth - 1)) for _ in range(draw(st.integers(0, 3)))]
        return "[" + "".join(draw(SPACE) + item + draw(SPACE) + "," for item in items) + draw(SPACE) + "]"
    if kind == "table":
        keys = draw(st.lists(KEYS, max_size=3, unique_by=lambda key: next(iter(tomllib.loads(f"{key} = 0")))))
        return "{" + ", ".join(f"{key} = {draw(values(depth=depth - 1))}" for key in keys) + "}"
    return str(draw(SCALARS))


@st.composite
def documents(draw: Any) -> str:
    lines = []
    for number in range(draw(st.integers(1, 5))):
        header = draw(st.sampled_from(["", "[t{}]", "[ t{} . sub ]", "[[many]]", "[[many.more{}]]"]))
        lines.append(header.format(number) + draw(st.sampled_from(["", " # [x]"])))
        lines.append(f"k{number}.{draw(KEYS)} = {draw(values())}" + draw(st.sampled_from(["", " # = 1"])))
    return "\n".join(lines)


PLAIN = {"bare", "bare-2", "sub", "many", *(f"{letter}{number}" for letter in "kt" for number in range(5))}


@given(documents())
def test_every_key_of_any_document_is_found(text):
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        reject()
    found = locate(text)
    lines = text.split("\n")

    assert set(found) == paths_of(data) - {()}
    assert all(path[-1] in lines[line - 1] for path, line in found.items() if path[-1] in PLAIN)
