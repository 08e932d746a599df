"""Tree to text to tree, and texts that are no questions at all."""

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from flowobs.filters import And, Filter, Match, Not, Op, Or
from flowobs.query import QueryError, parse, text
from flowobs.query.words import MOST_CHARACTERS
from tests.query.trees import filters, questions

NOW = time.time_ns()
SETTINGS = settings(max_examples=300, deadline=None)


def canonical(filter: Filter) -> Filter:
    """The same filter, in the one shape that a question has for it."""
    match filter:
        case Match(field, Op.any_of, value):
            assert isinstance(value, tuple)
            if len(value) == 1:
                return Match(field, Op.eq, value[0])
            return filter if value else Not(And(()))
        case Match(field, Op.glob, value):
            assert isinstance(value, str)
            return filter if "*" in value or "?" in value else Match(field, Op.eq, value)
        case Not(part):
            return Not(canonical(part))
        case Or(()):
            return Not(And(()))
        case And(parts) | Or(parts) if len(parts) == 1:
            return canonical(parts[0])
        case And(parts):
            return And(tuple(map(canonical, parts)))
        case Or(parts):
            return Or(tuple(map(canonical, parts)))
    return filter


@SETTINGS
@given(filter=filters(NOW))
def test_a_tree_comes_back_from_its_text(filter: Filter) -> None:
    wanted = canonical(filter)
    assert parse(text(wanted)) == wanted


@SETTINGS
@given(question=questions())
def test_what_was_parsed_comes_back_from_its_text(question: str) -> None:
    tree = attempt(question)
    if tree is not None:
        assert parse(text(tree)) == canonical(tree)


def attempt(question: str) -> Filter | None:
    started = time.process_time()
    try:
        return parse(question)
    except QueryError as error:
        assert 1 <= error.column <= min(len(question), MOST_CHARACTERS) + 1
        assert error.sentence and "\n" not in error.sentence.replace(question, "")
        return None
    finally:
        assert time.process_time() - started < 2


@SETTINGS
@given(question=st.text())
def test_any_text_is_a_question_or_an_error(question: str) -> None:
    attempt(question)


@SETTINGS
@given(question=st.text(st.sampled_from("ab1:./*?!()~<>=,\"'\\- \u00b5[]%"), max_size=60))
def test_any_heap_of_signs_is_a_question_or_an_error(question: str) -> None:
    attempt(question)


def test_long_and_deep_texts_end_soon() -> None:
    for piece in ("(", "!", "not ", "a or ", ":", "kind:", ",", '"', "\\", "a/", "*?", ".", "::"):
        attempt(piece * MOST_CHARACTERS)
        attempt((piece * MOST_CHARACTERS)[:MOST_CHARACTERS])
        attempt("kind:" + (piece * MOST_CHARACTERS)[: MOST_CHARACTERS - 5])
        attempt("port:" + (piece * MOST_CHARACTERS)[: MOST_CHARACTERS - 5])
    attempt("kind:" + "*?" * 2000 + "x")
    attempt("z" * MOST_CHARACTERS + ":1")
