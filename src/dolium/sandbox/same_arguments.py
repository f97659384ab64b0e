"""For the names of `dolium.aio`, which pass on what they are given: they take the arguments of another function, as type checkers,
editors and help() see it."""

from collections.abc import Callable, Coroutine
from inspect import signature
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")


def of_method(method: Callable[Concatenate[Any, P], object]) -> \
        Callable[[Callable[..., Coroutine[Any, Any, T]]], Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]]:  # fmt: skip
    """Of a method."""

    def settle(function: Callable[..., Coroutine[Any, Any, T]]) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]:
        _say(function, method)
        return cast(Callable[Concatenate[Any, P], Coroutine[Any, Any, T]], function)

    return settle


def of_class(kind: Callable[P, object]) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, P], None]]:
    """Of how something is made."""

    def settle(function: Callable[..., None]) -> Callable[Concatenate[Any, P], None]:
        _say(function, kind.__init__)
        return cast(Callable[Concatenate[Any, P], None], function)

    return settle


def of_function(function: Callable[P, object]) -> \
        Callable[[Callable[..., Coroutine[Any, Any, T]]], Callable[P, Coroutine[Any, Any, T]]]:  # fmt: skip
    """Of a function."""

    def settle(own: Callable[..., Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        _say(own, function)
        return cast(Callable[P, Coroutine[Any, Any, T]], own)

    return settle


def _say(own: Any, other: Callable[..., Any]) -> None:
    own.__signature__ = signature(other).replace(return_annotation=signature(own).return_annotation)
