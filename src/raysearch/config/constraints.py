"""Constraints: small expressions over the hyperparameters, such as `width * convolutions <= 64`.

Python's parser reads the text, and the functions here evaluate its syntax tree; no code is run. A
comparison with a hyperparameter that the trial does not have is neither true nor false (Kleene,
1952), and a trial violates a constraint only if it is false.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any

from raysearch.config.hyperparameter_spec import Value
from raysearch.config.names import suggestion
from raysearch.config.space import Space

MAX_CHARACTERS = 300
MAX_DEPTH = 30
MAX_BITS = 1024
CONSTANTS = {"true": True, "false": False}
FUNCTIONS: dict[str, Callable[..., Any]] = {"min": min, "max": max, "abs": abs}
ALLOWED = (
    "numbers, texts, hyperparameters, + - * / // % **, comparisons, and, or, not, min, max and abs"
)


def _power(base: float, exponent: float) -> Any:
    is_integer = isinstance(base, int) and isinstance(exponent, int)
    if is_integer and int(base).bit_length() * int(exponent) > MAX_BITS:
        raise OverflowError("a power is too large")
    power = base**exponent
    if isinstance(power, complex):
        raise ArithmeticError("a root of a number below 0")
    return power


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
    ast.In: lambda value, values: value in values,
    ast.NotIn: lambda value, values: value not in values,
}


def allowed(space: Space, hparams: Mapping[str, Value]) -> bool:
    """Return whether `hparams` of a trial satisfy every constraint of `space`."""
    return all(holds(text, hparams) for text in space.constraints)


def holds(text: str, hparams: Mapping[str, Value]) -> bool:
    """Return whether `hparams` satisfy the valid constraint `text`.

    They do not if it cannot be computed.
    """
    try:
        return truth(text, hparams) is not False
    except (ArithmeticError, TypeError):
        return False


def truth(text: str, hparams: Mapping[str, Value]) -> bool | None:
    """Return whether `text` is true of `hparams`; None if it does not apply.

    Raises:
        ArithmeticError: If it cannot be computed.
        TypeError: If a text stands in place of a number.
    """
    return _truth(_parse(text), hparams)


@lru_cache(16384)
def names_in(node: ast.AST) -> frozenset[str]:
    """Return the hyperparameters that an expression names."""
    names = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
    return frozenset(names - FUNCTIONS.keys() - CONSTANTS.keys())


def constraint_errors(text: str, names: Collection[str]) -> list[str]:
    """Return the reasons why `text` is no constraint on the hyperparameters `names`."""
    try:
        tree = _parse(text)
    except ValueError as error:
        return [str(error)]
    errors = list(dict.fromkeys(_condition_errors(tree)))
    used = names_in(tree)
    errors += [
        f"{name} is not in the space{suggestion(name, names)}" for name in sorted(used - set(names))
    ]
    return errors if errors or used else ["it names no hyperparameter"]


@lru_cache(1024)
def _parse(text: str) -> ast.expr:
    """Return the expression in `text`; ValueError if there is none."""
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"longer than {MAX_CHARACTERS} characters; divide it")
    try:
        # Python warns about suspicious code, such as a call of a number.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(" ".join(text.split()), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f"not an expression of {ALLOWED}") from None
    level: list[ast.AST] = [tree]
    for _ in range(MAX_DEPTH):
        level = [inner for node in level for inner in ast.iter_child_nodes(node)]
    if level:
        raise ValueError(f"nested deeper than {MAX_DEPTH}; divide it")
    return tree


def _condition_errors(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.BoolOp(values=parts):
            for part in parts:
                yield from _condition_errors(part)
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            yield from _condition_errors(inner)
        case ast.Compare(left=left, ops=[ast.In() | ast.NotIn()], comparators=[values]):
            is_list = isinstance(values, ast.List | ast.Tuple)
            for operand in (left, *(values.elts if is_list else [values])):  # type: ignore[attr-defined]
                yield from _value_errors(operand)
            if not is_list:
                yield f"`in {ast.unparse(values)}`: give a list in brackets"
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            if any(type(op) not in COMPARISONS or isinstance(op, ast.In | ast.NotIn) for op in ops):
                yield f"`{ast.unparse(node)}` has a comparison that is not allowed"
            for operand in (left, *comparators):
                yield from _value_errors(operand)
        case ast.Name():
            pass
        case _:
            yield from _value_errors(node)
            yield f"`{ast.unparse(node)}` is neither true nor false; add a comparison"


def _value_errors(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Name() | ast.Constant(value=bool() | int() | float() | str()):
            operands: list[ast.expr] = []
        case ast.BinOp(left=left, right=right) if type(node.op) in ARITHMETIC:
            operands = [left, right]
        case ast.UnaryOp(op=ast.UAdd() | ast.USub(), operand=operand):
            operands = [operand]
        case ast.Call(func=ast.Name(id="abs"), args=[_] as operands, keywords=[]):
            pass
        case ast.Call(func=ast.Name(id="min" | "max"), args=[_, _, *_] as operands, keywords=[]):
            pass
        case _:
            yield f"`{ast.unparse(node)}` is not allowed; use {ALLOWED}"
            return
    for inner in operands:
        yield from _value_errors(inner)


def _truth(node: ast.expr, hparams: Mapping[str, Value]) -> bool | None:
    """Return whether `node` is true; None if that depends on a hyperparameter that is absent."""
    match node:
        case ast.BoolOp(op=op, values=parts):
            decisive = isinstance(op, ast.Or)
            is_known = True
            for part in parts:
                result = _truth(part, hparams)
                if result is decisive:
                    return decisive
                is_known = is_known and result is not None
            return not decisive if is_known else None
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            result = _truth(inner, hparams)
            return None if result is None else not result
    if not names_in(node) <= hparams.keys():
        return None
    if not isinstance(node, ast.Compare):
        return bool(_value(node, hparams))
    operands = pairwise((node.left, *node.comparators))
    return all(
        _compare(op, _value(left, hparams), _value(right, hparams))
        for op, (left, right) in zip(node.ops, operands, strict=True)
    )


def _compare(op: ast.cmpop, left: Any, right: Any) -> bool:
    is_order = not isinstance(op, ast.Eq | ast.NotEq | ast.In | ast.NotIn)
    if is_order and isinstance(left, str) is not isinstance(right, str):
        text = left if isinstance(left, str) else right
        raise TypeError(f"{text!r} is a text; a number is needed")
    return COMPARISONS[type(op)](left, right)


def _value(node: ast.expr, hparams: Mapping[str, Value]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return CONSTANTS[name] if name in CONSTANTS else hparams[name]
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            return [_value(part, hparams) for part in parts]
        case ast.BinOp(left=left, op=op, right=right):
            return ARITHMETIC[type(op)](_number(left, hparams), _number(right, hparams))
        case ast.UnaryOp(op=op, operand=operand):
            number = _number(operand, hparams)
            return -number if isinstance(op, ast.USub) else number
        case ast.Call(func=ast.Name(id=name), args=parts):
            return FUNCTIONS[name](*(_number(part, hparams) for part in parts))
    raise TypeError(f"`{ast.unparse(node)}` has no value")


def _number(node: ast.expr, hparams: Mapping[str, Value]) -> Any:
    value = _value(node, hparams)
    if isinstance(value, str):
        raise TypeError(f"{value!r} is a text; a number is needed")
    return value
