"""Reading JSON lines: numbers, batches, and what files really hold."""

import io
import json
import tracemalloc

import pytest

from deploy.cli import jsonl
from deploy.cli.jsonl import NotLines, batches


def read(content: bytes) -> tuple[list, list]:
    """(number, record) of what can be read, (number, message) of what cannot."""
    found = list(batches(io.BytesIO(content)))
    return (
        [(line["number"], line["record"]) for batch in found for line in batch.lines],
        [(error["line"], error["message"]) for batch in found for error in batch.errors],
    )


def test_lines_keep_their_numbers_past_blank_and_bad_ones():
    lines, errors = read(b'{"a": 1}\n\n  \t\n{"a": 2}\n{"a": \n"text"\n{"a": 3}')
    assert lines == [(1, {"a": 1}), (4, {"a": 2}), (6, "text"), (7, {"a": 3})]
    [(number, message)] = errors
    assert number == 5
    assert "not JSON" in message


def test_a_byte_order_mark_and_carriage_returns_are_no_part_of_a_line():
    lines, errors = read(b'\xef\xbb\xbf{"a": "\xc3\xa9"}\r\n\r\n{"a": 2}\r\n')
    assert lines == [(1, {"a": "é"}), (3, {"a": 2})]
    assert errors == []


def test_line_separators_within_a_string_do_not_end_a_line():
    text = json.dumps({"a": "one\u2028two\x85three"}, ensure_ascii=False)
    assert read(text.encode() + b"\n")[0] == [(1, {"a": "one\u2028two\x85three"})]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"a": "\xff"}', "not UTF-8 (at byte 8)"),
        (b'{"a": 1} {"a": 2}', "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b'{"a": NaN}', "not JSON"),
        (b'{"a": "\\ud800"}', "not JSON"),
        (b"\0", "not JSON"),
        (b'{"a": ' + b"[" * 300 + b"]" * 300 + b"}", "nested too deep"),
        (b'{"a": ' + b"[" * 30_000 + b"]" * 30_000 + b"}", "not JSON"),
    ],
)
def test_what_cannot_be_read_is_said_and_the_next_line_is_read(line, message):
    lines, errors = read(line + b'\n{"a": 1}\n')
    assert lines == [(2, {"a": 1})]
    [(number, said)] = errors
    assert number == 1
    assert message in said


@pytest.mark.parametrize("content", [b'[{"a": 1}, {"a": 2}]', b"\xef\xbb\xbf\n [\n  {\n", b"[]"])
def test_an_array_is_no_file_of_lines(content):
    with pytest.raises(NotLines, match="JSON array, not JSON lines"):
        read(content)


def test_an_array_further_down_is_one_bad_line_for_the_gateway_to_name():
    assert read(b'{"a": 1}\n[]\n')[0] == [(1, {"a": 1}), (2, [])]


def test_a_line_that_is_too_long_is_passed_over(monkeypatch):
    monkeypatch.setattr(jsonl, "LONGEST", 1 << 20)
    long = b'{"a": "' + b"x" * (5 << 20) + b'"}'
    lines, errors = read(b'{"a": 1}\n' + long + b'\n{"a": 2}\n' + long)
    assert lines == [(1, {"a": 1}), (3, {"a": 2})]
    assert errors == [(2, "it is longer than 1 MiB"), (4, "it is longer than 1 MiB")]


def test_batches_are_bounded_by_lines_and_by_bytes():
    small = list(batches(io.BytesIO(b'{"a": 1}\n' * 450)))
    assert [len(batch.lines) for batch in small] == [200, 200, 50]
    assert [batch.last for batch in small] == [200, 400, 450]
    assert small[-1].end == 9 * 450
    large = list(batches(io.BytesIO((json.dumps({"a": "x" * 100_000}) + "\n").encode() * 7)))
    assert [len(batch.lines) for batch in large] == [3, 3, 1]
    bad = list(batches(io.BytesIO(b"{\n" * 450)))
    assert [len(batch.errors) for batch in bad] == [200, 200, 50]


@pytest.mark.slow
def test_a_long_file_takes_no_more_memory_than_a_short_one(tmp_path):
    path = tmp_path / "long.jsonl"
    with path.open("w") as file:
        for number in range(100_000):
            file.write(json.dumps({"prompt": f"{number} " + "x" * 200}) + "\n")
    tracemalloc.start()
    with path.open("rb") as file:
        count = sum(len(batch.lines) for batch in batches(file))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 100_000
    assert peak < 4 << 20


def test_an_empty_file_has_no_batches():
    assert list(batches(io.BytesIO(b"\n\n"))) == []
