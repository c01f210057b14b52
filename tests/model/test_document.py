from __future__ import annotations

import json
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from podd.model import document
from podd.model.document import MAX_BYTES, MAX_DEPTH, MAX_NODES, Mapping, Scalar, data, documents, meaning
from podd.model.problem import Place, Problems


def read(text: str | bytes) -> tuple[list[object], list[str]]:
    """The documents as plain data, and the problems as text."""
    problems = Problems("x")
    found = [data(node) for node in documents(text, problems)]
    return found, [str(problem) for problem in problems]


GOOD = {
    "nothing": ("", []),
    "a comment": ("# nothing\n---\n---\n~\n...\n", []),
    "several documents": ("a: b\n---\n- c\n---\n", [{"a": "b"}, ["c"]]),
    "JSON": ('{"a": [true, null, 1.50, "x\\u00e9\\/\\n"]}', [{"a": [True, None, "1.50", "xé/\n"]}]),
    "JSON that escapes beyond 16 bits": (' {"a": "\\ud83d\\ude00 \\\\ud83d\\\\ude00"}', [{"a": "😀 \\ud83d\\ude00"}]),
    "JSON with tabs": ('{\n\t"a":\t[\n\t\t1\n\t]\n}', [{"a": ["1"]}]),
    "a byte order mark": ("\ufeffa: b", [{"a": "b"}]),
    "block text": ("a: |\n  x\n  y\nb: >-\n  x\n  y\n", [{"a": "x\ny\n", "b": "x y"}]),
    "an alias": ("a: &x {b: c}\nd: *x", [{"a": {"b": "c"}, "d": {"b": "c"}}]),
    "an anchor given anew": ("a: &x 'b'\nc: &x 'd'\ne: *x", [{"a": "b", "c": "d", "e": "d"}]),
    "a merge": (
        "a: &x {b: '1', c: '1'}\nd: {c: '2', <<: *x}",
        [{"a": {"b": "1", "c": "1"}, "d": {"b": "1", "c": "2"}}],
    ),
    "a merge before": ("d: {<<: {b: '1', c: '1'}, c: '2'}", [{"d": {"b": "1", "c": "2"}}]),
    "merges, the first counts": ("{<<: [{a: '1'}, {a: '2', b: '2'}]}", [{"a": "1", "b": "2"}]),
    "a quoted key that looks like a merge": ("'<<': 'x'", [{"<<": "x"}]),
    "a tag that says what is": ("!!map {a: !!str 5, b: !!seq [], c: ! x}", [{"a": "5", "b": [], "c": "x"}]),
    "bytes": ("a: é".encode(), [{"a": "é"}]),
}


@pytest.mark.parametrize(("text", "found"), GOOD.values(), ids=list(GOOD))
def test_good(text: str, found: list[object]) -> None:
    assert read(text) == (found, [])


BAD = {
    "a tab": ("a:\n\tb: c", "x:2:1: is not YAML: while scanning for the next token: found character that cannot start"),
    "an open bracket": ("a: [", "x:2:1: is not YAML: while parsing a flow node: did not find expected node content"),
    "a key given twice": ("a: 1\nb: 2\na: 3", "x:3:1: a: is given twice, first on line 1; keep one"),
    "a key given twice, in quotes": ("a: 1\n'a': 2", "x:2:1: a: is given twice, first on line 1; keep one"),
    "a boolean as a key": ("a: {on: x}", 'x:1:5: a.on: a key is a string, and this is a boolean; quote it: "on"'),
    "a number as a key": ("- 1: x", 'x:1:3: [0][1]: a key is a string, and this is a number; quote it: "1"'),
    "nothing as a key": ("~: x", 'x:1:1: [~]: a key is a string, and this is nothing (null); quote it: "~"'),
    "a list as a key": ("? [a]\n: b", "x:1:3: a key is a string, not a list or a mapping"),
    "an alias of nothing": (
        "a: *b",
        "x:1:4: a: is an alias (*) of an anchor that is not there; quote it if * begins a text",
    ),
    "an alias of the last document": (
        "a: &b c\n---\na: *b",
        "x:3:4: a: is an alias (*) of an anchor that is not there; quote it if * begins a text",
    ),
    "what contains itself": ("a: &b [*b]", "x:1:8: a[0]: *b contains itself"),
    "what merges itself": ("a: &b {<<: *b}", "x:1:12: a[<<]: *b contains itself"),
    "a merge of a string": ("a: {<<: b}", "x:1:5: a[<<]: merges mappings, and this is none"),
    "a tag": ("a: !!int '5'", "x:1:4: a: has the tag !!int: podd reads values without tags; remove it"),
    "a tag of one's own": (
        "a: !hunter2",
        "x:1:4: a: has a tag (!): podd reads values without tags; remove it, or quote it if ! begins a text",
    ),
    "a tag that would run code": (
        "a: !!python/object/apply:os.system ['x']",
        "x:1:4: a: has a tag (!): podd reads values without tags",
    ),
    "the wrong tag": ("a: !!seq {}", "x:1:4: a: has the tag !!seq: podd reads values without tags; remove it"),
    "a NUL": ("a: b\nc: \0d", "x:2:4: is not YAML: unacceptable character #x0000: control characters are not allowed"),
    "an escape": (
        "a: b\x1b[2J",
        "x:1:5: is not YAML: unacceptable character #x001b: control characters are not allowed",
    ),
    "not UTF-8": (b"a: \xff", "x:1:4: is not UTF-8: invalid start byte at byte 3; save it as UTF-8"),
    "half of an escape": (
        '{"a": "\\ud83d"}',
        "x:1:10: is not YAML: while parsing a quoted scalar: found invalid Unicode",
    ),
    "half a character": ("a: \udc80", "x:1:4: is not UTF-8: surrogates not allowed at byte 3; save it as UTF-8"),
    "UTF-16": ("a: b".encode("utf-16"), "x:1:1: is not UTF-8: invalid start byte at byte 0"),
    "nested too deep": ("[" * 100_000, f"x:1:{MAX_DEPTH + 1}: [0][0][0]"),
    "nested too deep, by lines": ("- " * 100_000, f"x:1:{MAX_DEPTH * 2 + 1}: [0][0][0]"),
    "nested too deep, by aliases": (
        "- &a " + "[" * 40 + "]" * 40 + "\n- " + "[" * 40 + "*a" + "]" * 40,
        "is nested deeper than 64 levels",
    ),
    "too large": (
        "# " + "x" * MAX_BYTES,
        f"x:1:1: has {MAX_BYTES + 2} bytes, podd reads at most {MAX_BYTES}; give fewer",
    ),
}


@pytest.mark.parametrize(("text", "problem"), BAD.values(), ids=list(BAD))
def test_bad(text: str | bytes, problem: str) -> None:
    _, problems = read(text)
    assert len(problems) == 1
    assert problem in problems[0]


def test_what_stands_before_a_document_that_cannot_be_read_is_read() -> None:
    found, problems = read("a: b\n---\na: [\n---\nc: d")
    assert found == [{"a": "b"}]
    assert len(problems) == 1


def test_places_are_those_of_an_editor() -> None:
    (node,) = documents("# first\n\nélan:\n    - 'x'\n", Problems("x"))
    assert isinstance(node, Mapping)
    entry = node.entries["élan"]
    assert (entry.key.place, entry.value.place) == (Place(3, 1), Place(4, 5))


def test_a_message_cannot_move_the_cursor_or_fill_the_screen() -> None:
    _, (problem,) = read(f'"\\e[2J\\r{"k" * 10_000}": 1\n"\\e[2J\\r{"k" * 10_000}": 2')
    assert problem.isprintable()
    assert len(problem) < 1000


# ---- bounds


LAUGHS = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
LAUGHS += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]

COSTLY = {
    "a billion laughs": "\n".join(LAUGHS),
    "a billion laughs by merging": "\n".join(["a0: &a0 {u: {v: w}}"])
    + "".join(
        f"\na{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}], k: *a{n - 1}, l: *a{n - 1}}}" for n in range(1, 30)
    ),
    "one large list, often": f"a: &a [{'x,' * 1000}]\nb: [{'*a,' * 1000}]",
    "many values": "[" + "x," * (MAX_NODES + 1) + "]",
    "many small documents": "---\na\n" * (MAX_NODES + 1),
}


@pytest.mark.parametrize("text", COSTLY.values(), ids=list(COSTLY))
def test_a_bounded_amount_of_work(text: str) -> None:
    started = time.process_time()
    _, problems = read(text)
    assert len(problems) == 1
    assert f"more than {MAX_NODES} values" in problems[0]
    assert time.process_time() - started < 10  # a hundred times what it takes: unbounded work takes for ever


def test_ten_megabytes_are_refused_before_they_are_read() -> None:
    started = time.process_time()
    _, (problem,) = read("- x\n" * 2_500_000)
    assert "10000000 bytes" in problem
    assert time.process_time() - started < 1


# ---- what a scalar means


MEANINGS = {
    "null": ["", "~", "null", "Null", "NULL"],
    "bool": ["true", "True", "TRUE", "false", "yes", "No", "ON", "off", "y", "N"],
    "int": ["0", "1", "-1", "+1", "9223372036854775808"],
    "odd int": ["0644", "00", "08", "0o17", "0x1f", "0b11", "1_000", "1:30", "-190:20:30", "+0x_a"],
    "float": ["1.", "1.5", ".5", "-1.5e3", "1e3", "1E-3", ".inf", "-.INF", ".nan", "1:30.5", "1_0.5"],
    "str": [
        "x",
        "yEs",
        "nUll",
        "1.2.3",
        "1a",
        "0x",
        "e3",
        "-",
        ".",
        "1:60x",
        "2024-01-01",
        "12:30pm",
        "٣",
        "1e",
        "100m",
    ],
}


@pytest.mark.parametrize(("text", "kind"), [(text, kind) for kind, texts in MEANINGS.items() for text in texts])
def test_meaning(text: str, kind: str) -> None:
    assert meaning(Scalar(Place(1, 1), text, plain=True)) == kind
    assert meaning(Scalar(Place(1, 1), text, plain=False)) == "str"


@given(st.text(alphabet="0123456789abefinotxyEN_.:+-~ ", max_size=8))
def test_what_a_yaml_reader_would_take_for_something_else_is_no_string(text: str) -> None:
    """PyYAML reads YAML 1.1; json reads what YAML 1.2 takes over."""
    taken = yaml.SafeLoader("").resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    is_string = meaning(Scalar(Place(1, 1), text, plain=True)) == "str"
    if taken not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value"):
        assert not is_string
    try:
        json.loads(text, parse_constant=int)  # NaN is no JSON
    except ValueError:
        return
    assert text.isspace() or text != text.strip() or not is_string


@given(st.recursive(st.text(max_size=5), lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner)))
def test_json_of_strings_comes_back(value: object) -> None:
    found, problems = read(json.dumps({"value": value}))
    assert (found, problems) == ([{"value": value}], [])


@given(st.text(alphabet="ab: -[]{}&*!|>'\"%@`\n#,?~<\t\\\0", max_size=60))
def test_any_text_is_read_or_told(text: str) -> None:
    nodes = documents(text, Problems("x"))
    for node in nodes:
        document.data(node)
