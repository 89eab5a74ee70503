"""Constraints: small expressions over the hyperparameters, such as `width * convolutions <= 64`.

Python's grammar reads the text and the functions here compute it; nothing of it is ever run. What
counts is whether it is false: a comparison that needs a hyperparameter which the trial does not have is
neither true nor false (Kleene, 1952), so that such a constraint does not apply.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any

from raysearch.config.space import Space, Value

MAX_CHARACTERS = 300
MAX_DEPTH = 30
MAX_BITS = 1024
CONSTANTS = {"true": True, "false": False}
FUNCTIONS: dict[str, Callable[..., Any]] = {"min": min, "max": max, "abs": abs}
ALLOWED = (
    "numbers, texts, hyperparameters, + - * / // % **, comparisons, and, or, not, min, max and abs"
)


def _power(base: float, exponent: float) -> Any:
    whole = isinstance(base, int) and isinstance(exponent, int)
    if whole and int(base).bit_length() * int(exponent) > MAX_BITS:
        raise OverflowError("a power is too large")
    found = base**exponent
    if isinstance(found, complex):
        raise ArithmeticError("a root of a number below 0")
    return found


ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda one, several: one in several,
    ast.NotIn: lambda one, several: one not in several,
}


def allowed(space: Space, chosen: Mapping[str, Value]) -> bool:
    """Whether the hyperparameters `chosen` of a trial satisfy every constraint of `space`."""
    return all(holds(text, chosen) for text in space.constraints)


def holds(text: str, chosen: Mapping[str, Value]) -> bool:
    """Whether `chosen` satisfies the faultless constraint `text`; not where it has no value."""
    try:
        return truth(text, chosen) is not False
    except (ArithmeticError, TypeError):
        return False


def truth(text: str, chosen: Mapping[str, Value]) -> bool | None:
    """Whether `text` is true of `chosen`; None where it does not apply.

    ArithmeticError where it cannot be computed, TypeError for a text where a number belongs.
    """
    return _truth(_parsed(text), chosen)


def names_in(node: ast.AST) -> set[str]:
    """The hyperparameters that an expression names."""
    found = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    return found - FUNCTIONS.keys() - CONSTANTS.keys()


def errors_of(text: str, names: Collection[str]) -> list[str]:
    """What keeps `text` from being a constraint over the hyperparameters `names`."""
    try:
        tree = _parsed(text)
    except ValueError as error:
        return [str(error)]
    found = list(dict.fromkeys(_condition_errors(tree)))
    named = names_in(tree)
    found += [f"{name} is not in the space" for name in sorted(named - set(names))]
    return found if found or named else ["it names no hyperparameter"]


@lru_cache(1024)
def _parsed(text: str) -> ast.expr:
    """The expression in `text`; ValueError where there is none."""
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"longer than {MAX_CHARACTERS} characters; write several")
    try:
        # Python warns of odd code, such as a number that is called.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(" ".join(text.split()), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"no expression; it may have {ALLOWED}") from None
    level: list[ast.AST] = [tree]
    for _ in range(MAX_DEPTH):
        level = [inner for node in level for inner in ast.iter_child_nodes(node)]
    if level:
        raise ValueError(f"nested deeper than {MAX_DEPTH}; write several")
    return tree


def _condition_errors(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.BoolOp(values=parts):
            for part in parts:
                yield from _condition_errors(part)
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            yield from _condition_errors(inner)
        case ast.Compare(left=left, ops=[ast.In() | ast.NotIn()], comparators=[several]):
            listed = isinstance(several, ast.List | ast.Tuple)
            for one in (left, *(several.elts if listed else [several])):  # type: ignore[attr-defined]
                yield from _value_errors(one)
            if not listed:
                yield f"`in {ast.unparse(several)}`: give a list in brackets"
        case ast.Compare(left=left, ops=ops, comparators=others):
            if any(type(op) not in COMPARISONS or isinstance(op, ast.In | ast.NotIn) for op in ops):
                yield f"`{ast.unparse(node)}` has a comparison that is not allowed here"
            for one in (left, *others):
                yield from _value_errors(one)
        case ast.Name():
            pass
        case _:
            yield from _value_errors(node)
            yield f"`{ast.unparse(node)}` is neither true nor false; compare it with something"


def _value_errors(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Name() | ast.Constant(value=bool() | int() | float() | str()):
            inner: list[ast.expr] = []
        case ast.BinOp(left=left, right=right) if type(node.op) in ARITHMETIC:
            inner = [left, right]
        case ast.UnaryOp(op=ast.UAdd() | ast.USub(), operand=operand):
            inner = [operand]
        case ast.Call(func=ast.Name(id="abs"), args=[_] as inner, keywords=[]):
            pass
        case ast.Call(func=ast.Name(id="min" | "max"), args=[_, _, *_] as inner, keywords=[]):
            pass
        case _:
            yield f"`{ast.unparse(node)}` is not allowed here; it may have {ALLOWED}"
            return
    for one in inner:
        yield from _value_errors(one)


def _truth(node: ast.expr, chosen: Mapping[str, Value]) -> bool | None:
    """Whether `node` is true; None where a hyperparameter that this hangs on is not there."""
    match node:
        case ast.BoolOp(op=op, values=parts):
            ends = isinstance(op, ast.Or)
            known = True
            for part in parts:
                found = _truth(part, chosen)
                if found is ends:
                    return ends
                known = known and found is not None
            return not ends if known else None
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            found = _truth(inner, chosen)
            return None if found is None else not found
    if not names_in(node) <= chosen.keys():
        return None
    if not isinstance(node, ast.Compare):
        return bool(_value(node, chosen))
    places = pairwise((node.left, *node.comparators))
    return all(
        _compared(op, _value(left, chosen), _value(right, chosen))
        for op, (left, right) in zip(node.ops, places, strict=True)
    )


def _compared(op: ast.cmpop, left: Any, right: Any) -> bool:
    ordered = not isinstance(op, ast.Eq | ast.NotEq | ast.In | ast.NotIn)
    if ordered and isinstance(left, str) is not isinstance(right, str):
        text = left if isinstance(left, str) else right
        raise TypeError(f"{text!r} is a text, and stands where a number belongs")
    return COMPARISONS[type(op)](left, right)


def _value(node: ast.expr, chosen: Mapping[str, Value]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return CONSTANTS[name] if name in CONSTANTS else chosen[name]
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_value(part, chosen) for part in parts]
        case ast.BinOp(left=left, op=op, right=right):
            return ARITHMETIC[type(op)](_number(left, chosen), _number(right, chosen))
        case ast.UnaryOp(op=op, operand=operand):
            found = _number(operand, chosen)
            return -found if isinstance(op, ast.USub) else found
        case ast.Call(func=ast.Name(id=name), args=parts):
            return FUNCTIONS[name](*(_number(part, chosen) for part in parts))
    raise TypeError(f"`{ast.unparse(node)}` has no value")


def _number(node: ast.expr, chosen: Mapping[str, Value]) -> Any:
    found = _value(node, chosen)
    if isinstance(found, str):
        raise TypeError(f"{found!r} is a text, and stands where a number belongs")
    return found
