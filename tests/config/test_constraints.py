"""Constraints agree with Python if they have a value, and run no code."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from raysearch.config.constraints import MAX_CHARACTERS, constraint_errors, holds, truth

NAMES = ("a", "b", "c", "flag", "word")
ARITHMETIC = ("+", "-", "*", "/", "//", "%")
ORDER = ("<", "<=", ">", ">=", "==", "!=")
number = st.integers(-9, 9) | st.floats(-9, 9, allow_nan=False)
chosen_values = st.fixed_dictionaries(
    {
        "a": st.integers(-9, 9),
        "b": number,
        "c": number,
        "flag": st.booleans(),
        "word": st.sampled_from(["sgd", "adamw"]),
    }
)


def numbers() -> st.SearchStrategy[str]:
    leaves = st.sampled_from(["a", "b", "c"]) | number.map(repr)

    def wider(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.one_of(
            st.builds("({} {} {})".format, inner, st.sampled_from(ARITHMETIC), inner),
            st.builds("({}) ** {}".format, inner, st.integers(-2, 2)),
            st.builds("-({})".format, inner),
            st.builds("abs({})".format, inner),
            st.builds("{}({}, {})".format, st.sampled_from(["min", "max"]), inner, inner),
        )

    return st.recursive(leaves, wider, max_leaves=4)


def conditions() -> st.SearchStrategy[str]:
    order = st.sampled_from(ORDER)
    atoms = st.one_of(
        st.builds("{} {} {}".format, numbers(), order, numbers()),
        st.builds("{} {} {} {} {}".format, numbers(), order, numbers(), order, numbers()),
        st.sampled_from(
            ["flag", "flag == (a)", "word == 'sgd'", "word != 'sgd'", "word in ['sgd', 'x']"]
        ),
        st.just("a not in (1, 2, b)"),
    )

    def wider(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.one_of(
            st.builds("({} and {})".format, inner, inner),
            st.builds("({} or {})".format, inner, inner),
            st.builds("not ({})".format, inner),
        )

    return st.recursive(atoms, wider, max_leaves=4)


@given(conditions(), chosen_values)
def test_a_constraint_holds_if_python_evaluates_it_to_true(
    text: str, chosen: dict[str, object]
) -> None:
    errors = constraint_errors(text, NAMES)
    assume(len(text) <= MAX_CHARACTERS and not any("deeper" in error for error in errors))
    assert [error for error in errors if error != "it names no hyperparameter"] == []
    try:
        expected = bool(eval(text, {}, dict(chosen)))
    except ArithmeticError:
        expected = False
    except TypeError:  # a root of a number below 0 is complex, and has no order
        expected = False
    assert holds(text, chosen) is expected  # type: ignore[arg-type]


@given(conditions(), chosen_values, st.sets(st.sampled_from(NAMES)))
def test_a_constraint_that_is_false_without_some_values_is_false_with_them(
    text: str, chosen: dict[str, object], missing: set[str]
) -> None:
    assume(len(text) <= MAX_CHARACTERS and constraint_errors(text, NAMES) == [])
    remaining = {name: value for name, value in chosen.items() if name not in missing}
    try:
        result = truth(text, remaining)  # type: ignore[arg-type]
    except (ArithmeticError, TypeError):
        return
    assert result is not False or not holds(text, chosen)  # type: ignore[arg-type]


@given(st.text() | st.text(alphabet="ab()*<>=. '[]019:,!notind", max_size=30), chosen_values)
def test_any_text_is_evaluated_or_rejected(text: str, chosen: dict[str, object]) -> None:
    errors = constraint_errors(text, NAMES)
    assert all(errors)
    assert errors or holds(text, chosen) in (True, False)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("width <", "not an expression"),
        ("width = 3", "not an expression"),
        ("width", ""),
        ("width + 1", "neither true nor false"),
        ("1 < 2", "names no hyperparameter"),
        ("depth < 3", "depth is not in the space"),
        ("__import__('os').system('true') < width", "is not allowed"),
        ("width.real < 3", "`width.real` is not allowed"),
        ("width[0] < 3", "`width[0]` is not allowed"),
        ("(lambda: width)() < 3", "is not allowed"),
        ("min(width) < 3", "`min(width)` is not allowed"),
        ("abs(width, 1) < 3", "is not allowed"),
        ("max(*width) < 3", "is not allowed"),
        ("(width < 3) + 1 < 3", "`width < 3` is not allowed"),
        ("width is 3", "a comparison that is not allowed"),
        ("'a' in optimizer", "give a list in brackets"),
        ("f'{width}' == 'a'", "is not allowed"),
        ("width << 3 < 9", "is not allowed"),
        ("width < 3j", "is not allowed"),
        ("(width := 3) < 4", "is not allowed"),
        ("width < 3 if width else width", "neither true nor false"),
        ("width < " + "9" * 400, "longer than 300"),
        ("not " * 60 + "width", "nested deeper"),
        ("(" * 140 + "width" + ")" * 140, ""),
        ("width < 3\x00", "not an expression"),
        ("width < 3(4)", "is not allowed"),
    ],
)
def test_a_bad_text_is_rejected_with_its_reason(text: str, message: str) -> None:
    errors = constraint_errors(text, ("width", "optimizer"))
    assert any(message in error for error in errors) if message else errors == []
    assert not any("\n" in error for error in errors)


@pytest.mark.parametrize(
    ("text", "chosen", "true"),
    [
        ("momentum < 0.5", {}, True),
        ("not momentum < 0.5", {}, True),
        ("momentum < 0.5 and width < 3", {"width": 4}, False),
        ("momentum < 0.5 or width < 3", {"width": 4}, True),
        ("not (momentum < 0.5 or width < 3)", {"width": 2}, False),
        ("nesterov == true or width < 3", {"nesterov": False, "width": 4}, False),
        ("width / (width - 4) > 0", {"width": 4}, False),
        ("width ** width ** width < 9", {"width": 64}, False),
        ("width ** 0.5 < 9", {"width": -1}, False),
        ("optimizer < 3", {"optimizer": "sgd"}, False),
        ("optimizer * 3 == 3", {"optimizer": "sgd"}, False),
        ("optimizer in ['sgd', 'adamw']", {"optimizer": "sgd"}, True),
    ],
)
def test_a_constraint_without_a_value_is_violated_and_one_of_absent_hparams_is_not(
    text: str, chosen: dict[str, str | int | float | bool], true: bool
) -> None:
    assert holds(text, chosen) is true
