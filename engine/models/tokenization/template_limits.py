"""Limits for chat templates from untrusted models: time, size and depth of one rendering.

transformers runs templates in Jinja's sandbox, which they can't escape; but a loop may run forever, and a
single line may use up the memory. Here the sandbox counts: each loop iteration and every operation on a value
checks the time, large values are rejected before they are created, and everything that one rendering creates
is added up. Exceeding a limit raises ConfigError rather than TemplateError: it ends the job, whereas a row
that a template rejects is skipped.
"""

from __future__ import annotations

import functools
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import jinja2
from jinja2 import meta, nodes
from jinja2.filters import do_format, do_round
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer
from transformers.utils import chat_template_utils

from store.core.errors import ConfigError

SECONDS = 10.0  # time for one conversation
MAX_SOURCE = 2**16  # characters of a template; four times as many take seconds to compile
MAX_TEXT = 2**25  # characters or items of any value that a template creates: twice the longest row
MAX_PRODUCT = 2**26  # characters of a text times those of its arguments (to search for, to fill with)
MAX_ITEMS = 10**6  # values visited to measure a value's size, or pieces that a text is split into
MAX_MADE = 2**29  # total bytes that one rendering creates
MAX_BITS = 2**12  # bits of an integer: products and quotients take quadratic time
ITEM = 64  # bytes of a short text in a list
# Jinja's filters that split a text into characters, words or lines.
ITEMISING_FILTERS = ("batch", "groupby", "indent", "list", "slice", "sort", "title", "unique", "urlize",
    "wordcount",
         "wordwrap")  # fmt: skip
FIX = "Choose one of the names of templates, or repair the Jinja of the model."
CONTEXT_TYPES = (
    Context,
    nodes.EvalContext,
    jinja2.Environment,
)  # extra arguments that Jinja passes to filters on request
_rendering = threading.local()  # per thread: deadline `until`, bytes `made` so far


def limit_templates() -> None:
    """Apply these limits to all chat templates in this process from now on."""
    if chat_template_utils._compile_jinja_template is not _compile:
        chat_template_utils._compile_jinja_template = _compile


class _LimitedTemplate(jinja2.Template):
    def render(self, *args: Any, **kwargs: Any) -> str:
        """Render the template. Raises ConfigError if it takes too long or the text is too large."""
        _rendering.until, _rendering.made = time.monotonic() + SECONDS, 0
        pieces, size = [], 0
        try:
            for piece in self.root_render_func(self.new_context(dict(*args, **kwargs))):
                size += len(piece)
                _check_size(size)
                check_time()
                pieces.append(piece)
        except (RecursionError, MemoryError) as error:
            raise _make_template_error("calls itself without end" if isinstance(error, RecursionError)
                           else "takes more memory than allowed") from error  # fmt: skip
        except Exception:  # noqa: BLE001 (raised again, with the template's own lines)
            self.environment.handle_exception()
        finally:
            _rendering.until = None
        return "".join(pieces)


class _LimitedEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox of transformers with limits, created by changing the class of one of its environments."""

    template_class = _LimitedTemplate
    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "**", "%"))

    @staticmethod
    def concat(pieces: Iterable[str]) -> str:
        """Join the output of a macro, block or caller. Raises ConfigError if it is too large."""
        return join_values(*pieces)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return cast(nodes.Template, _LimitInserter().visit(super()._parse(source, name, filename)))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Apply the operator. Raises ConfigError if the result would be too large."""
        _check_binop(operator, left, right)
        return _count_made(super().call_binop(context, operator, left, right))

    def call(__self, __context: Context, __callee: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a function or a value's method. Raises ConfigError if the result would be too large."""
        method = getattr(__callee, "__wrapped__", __callee)  # the sandbox wraps `format`
        if isinstance(own := getattr(method, "__self__", None), (str, bytes, int, list, tuple, dict)):
            _check_call(own, args, kwargs)
            if method.__name__.startswith("format"):
                _check_widths(own)
        whole = isinstance(own, (str, bytes))
        if whole and "split" in method.__name__:
            _check_pieces(own, *args[:1])
        result = super().call(__context, __callee, *args, **kwargs)
        _check_size(_measure_size(result))
        return _count_made(result, deep=whole)


class _LimitInserter(NodeTransformer):
    """Insert time checks into loops, macros and comparisons, and size checks where values are combined."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        if node.test is not None:  # a loop by itself, whose body may never run
            node.test = nodes.And(_make_call(check_time_in_test), node.test)
        node.iter = _make_call(check_iterable, [cast(nodes.Expr, node.iter)])
        return self._ticking(node)

    def visit_Call(self, node: nodes.Call) -> nodes.Node:
        self.generic_visit(node)
        if node.dyn_args is not None:
            node.dyn_args = _make_call(check_iterable, [node.dyn_args])
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        return _make_call(count_value, [cast(nodes.Expr, self.generic_visit(node))])

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        return _make_call(count_value, [node]) if isinstance(node.arg, nodes.Slice) else node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        return self._ticking(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:
        return self._ticking(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        return _make_call(join_values, cast(nodes.Concat, self.generic_visit(node)).nodes)

    def visit_List(self, node: nodes.List) -> nodes.Node:
        return _make_call(check_value, [cast(nodes.Expr, self.generic_visit(node))])

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        return _make_call(check_value, [cast(nodes.Expr, self.generic_visit(node))])

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        tuple_node = cast(nodes.Expr, self.generic_visit(node))
        return _make_call(check_value, [tuple_node]) if node.ctx == "load" else tuple_node

    def _ticking(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> nodes.Node:
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_make_call(check_time), lineno=node.lineno))
        return node


def _make_call(function: Callable[..., Any], arguments: list[nodes.Expr] | None = None) -> nodes.Call:
    return nodes.Call(nodes.ImportedName(f"{__name__}.{function.__name__}"), arguments or [], [], None, None)


def check_time() -> None:
    """Raise ConfigError if the time is up. Called by compiled templates."""
    until = getattr(_rendering, "until", None)
    if until is not None and time.monotonic() > until:
        raise _make_template_error(f"took more than {SECONDS:.0f} s for one conversation")


def check_time_in_test() -> bool:
    """Return true, or raise ConfigError if the time is up. Called by compiled templates."""
    check_time()
    return True


def check_value(value: Any) -> Any:
    """Return the value, or raise ConfigError if it is too large. Called by compiled templates."""
    if not isinstance(value, str):
        _measure_size(value)
    return count_value(value)


def count_value(value: Any) -> Any:
    """Count the value towards the rendering's total and return it. Called by compiled templates.

    Raises ConfigError if the total is too large, or the time is up.
    """
    return _count_made(value)


def check_iterable(value: Any) -> Any:
    """Return the iterable; called by compiled templates.

    Raises ConfigError for a text too long to iterate over, or if the time is up.
    """
    check_time()
    if isinstance(value, (str, bytes)):
        _check_items(len(value))
    return value


def join_values(*values: Any) -> str:
    """Concatenate values as text. Raises ConfigError if they are too large. Called by compiled templates."""
    texts = [str(check_value(value)) for value in values]
    _check_size(sum(map(len, texts)))
    return str(_count_made("".join(texts)))


@functools.lru_cache
def _compile(chat_template: str) -> jinja2.Template:
    if len(chat_template) > MAX_SOURCE:
        raise _make_template_error(f"has {len(chat_template):,} characters, over {MAX_SOURCE:,}")
    try:
        return _make_environment().from_string(chat_template)
    except (RecursionError, MemoryError) as error:
        raise _make_template_error("is nested too deeply") from error


def find_undeclared_names(chat_template: str) -> set[str]:
    """Return the names that a template takes from its context.

    Raises TemplateError, and ConfigError as in rendering.
    """
    if len(chat_template) > MAX_SOURCE:
        raise _make_template_error(f"has {len(chat_template):,} characters, over {MAX_SOURCE:,}")
    try:
        return meta.find_undeclared_variables(_make_environment().parse(chat_template))
    except (RecursionError, MemoryError) as error:
        raise _make_template_error("is nested too deeply") from error


def _make_environment() -> jinja2.Environment:
    """Return transformers' environment with limits.

    It is taken from an empty template, since compiling evaluates constant expressions such as 'a' * 10**9.
    """
    environment = chat_template_utils._cached_compile_jinja_template("").environment
    environment.__class__ = _LimitedEnvironment
    environment.finalize = check_value
    environment.globals.pop("lipsum", None)
    environment.filters = {
        name: _limit_filter(own, apart=name in ITEMISING_FILTERS) for name, own in environment.filters.items()
    }
    environment.tests = {name: _limit_test(own) for name, own in environment.tests.items()}
    return cast(jinja2.Environment, environment)


def _limit_test(own: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a test so that it checks the time."""

    @functools.wraps(own)
    def timed(*args: Any, **kwargs: Any) -> Any:
        check_time()
        return own(*args, **kwargs)

    return timed


def _limit_filter(own: Callable[..., Any], *, apart: bool) -> Callable[..., Any]:
    """Wrap a filter so that it rejects large results; `apart`: it splits a text into parts."""

    @functools.wraps(own)  # also copies the mark of Jinja's pass_context and the like
    def limited(*args: Any, **kwargs: Any) -> Any:
        given = [value for value in args if not isinstance(value, CONTEXT_TYPES)]
        _check_call(given[0] if given else None, given[1:], kwargs)
        if own is do_format:
            _check_widths(given[0])
        if own is do_round:  # computes 10 ** precision
            _check_places(*given[1:], *kwargs.values())
        whole = bool(given) and isinstance(given[0], (str, bytes))
        if apart and whole:
            _check_items(len(given[0]))
        result = own(*args, **kwargs)
        return _check_each(result) if isinstance(result, Iterator) else _count_made(result, deep=whole)

    return limited


def _check_each(values: Iterator[Any]) -> Iterator[Any]:
    """Check values that a filter yields one by one, which is another loop."""
    size = 0
    for value in values:
        size += _measure_size(value)
        _check_size(size)
        yield value


def _check_call(own: Any, args: Any, kwargs: dict[str, object]) -> None:
    """Check the possible result size of a method or filter: its text's length times its arguments' sizes."""
    most = max(1, _measure_size(own))
    for value in (*args, *kwargs.values()):
        wide = value if isinstance(value, int) and not isinstance(value, bool) else _measure_size(value)
        most *= max(1, abs(wide))
        if most > MAX_PRODUCT:
            raise _make_size_error()


def _check_binop(operator: str, left: Any, right: Any) -> None:
    if operator == "%" and isinstance(left, str):
        _check_widths(left)
        if "*" in left:  # the width is one of the arguments
            _check_call(left, right if isinstance(right, tuple) else (right,), {})
    elif operator == "**" and isinstance(left, int) and isinstance(right, int):
        if left.bit_length() * abs(right) > MAX_BITS:
            raise _make_number_error()
    elif isinstance(left, (int, float)) and isinstance(right, (int, float)):
        _check_bits(left, right)
    elif operator == "+":
        _check_size(_measure_size(left) + _measure_size(right))
    elif operator == "*":
        for many, times in ((left, right), (right, left)):
            if isinstance(times, int) and isinstance(many, (str, list, tuple)):
                _check_size(_measure_size(many) * times)


def _check_bits(*values: Any) -> None:
    if any(isinstance(value, int) and value.bit_length() > MAX_BITS for value in values):
        raise _make_number_error()


def _check_places(*places: Any) -> None:
    if any(isinstance(number, int) and abs(number) > MAX_BITS // 4 for number in places):
        raise _make_number_error()


def _check_items(items: int) -> None:
    if items > MAX_ITEMS:
        raise _make_template_error(f"splits a text into more than {MAX_ITEMS:,} pieces")


def _check_pieces(text: Any, separator: Any = None) -> None:
    """Check the number of pieces before a text is split; at white space it is at most half the characters."""
    if len(text) > MAX_ITEMS:
        _check_items(text.count(separator) if isinstance(separator, type(text)) else len(text) // 2)


def _check_widths(text: Any) -> None:
    """Check the sum of the widths in a format string."""
    _check_size(sum(int(width[:20]) for width in re.findall("[0-9]+", str(text))))


def _count_made(value: Any, *, deep: bool = False) -> Any:
    """Count the value towards the rendering's total and return it; `deep`: its elements are new as well."""
    check_time()
    _check_bits(value)
    made = getattr(_rendering, "made", 0) + sys.getsizeof(value, 0)
    if deep and not isinstance(value, (str, bytes)):
        size, items = _measure_value(value)
        made += size + items * ITEM
    if made > MAX_MADE:
        raise _make_template_error(f"makes more than {MAX_MADE // 2**20} MiB of values for one conversation")
    _rendering.made = made
    return value


def _measure_size(value: Any) -> int:
    """Return the characters and items of a value and all its elements, counting repeated ones each time."""
    check_time()
    return _measure_value(value)[0]


def _measure_value(value: Any) -> tuple[int, int]:
    """Return the value's size, and the number of values visited."""
    size, looked, waiting = 0, 0, [value]
    while waiting:
        looked += 1
        if looked > MAX_ITEMS:
            raise _make_template_error(f"has more than {MAX_ITEMS:,} values at once")
        element = waiting.pop()
        if isinstance(element, (str, bytes)):
            size += len(element)
        elif isinstance(element, dict):
            waiting += [*element, *element.values()]
        elif isinstance(element, (list, tuple, set, frozenset)):
            size += len(element)
            waiting += element
        if size > MAX_TEXT:
            raise _make_size_error()
    return size, looked


def _check_size(size: int) -> None:
    check_time()
    if size > MAX_TEXT:
        raise _make_size_error()


def _make_size_error() -> ConfigError:
    return _make_template_error(f"makes texts of more than {MAX_TEXT // 10**6:,} million characters")


def _make_number_error() -> ConfigError:
    return _make_template_error(f"counts with whole numbers of more than {MAX_BITS:,} bits")


def _make_template_error(what: str) -> ConfigError:
    return ConfigError(f"The chat template {what}.", fix=FIX, field="chat_template")
