"""A digest of the code that a function runs, so that results of older code are detected.

The digest covers the statements of modules that the function reaches by name: the function itself,
the functions it calls and the constants it reads, in its module and in others of the same package.
Comments, docstrings and layout do not count, nor do installed libraries or anything that is not
reached by name.
"""

import ast
import functools
import importlib.util
import marshal
import sys
import sysconfig
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rcnn_jax.output.digests import json_digest

_PACKAGE = __name__.partition(".")[0]
# Modules that every data set of this package uses and that do not affect the examples.
_PLUMBING = frozenset(
    f"{_PACKAGE}.data.{name}"
    for name in ("columns", "notices", "path_options", "records.damage", "roots", "sources", "spec")
)
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_LIBRARIES = tuple(
    str(Path(sysconfig.get_path(name))) for name in ("stdlib", "platstdlib", "purelib", "platlib")
)


def code_digest(function: Callable[..., Any]) -> str:
    """Returns the digest of the code of a function.

    Args:
        function: A function, a partial function, a method or a callable object. Numbers and texts
            that are bound to it count too.

    Returns:
        16 hexadecimal digits.
    """
    statements = _Found()
    statements.take(function)
    return json_digest(sorted(statements.texts))[:16]


def is_shipped(function: Callable[..., Any]) -> bool:
    """Returns whether a function belongs to this package.

    Args:
        function: A function, a partial function, a method or a callable object.
    """
    return any(name.partition(".")[0] == _PACKAGE for name in _modules_of(function))


def folders(function: Callable[..., Any]) -> list[Path]:
    """Returns the folders of the modules that a function comes from, except libraries.

    Args:
        function: A function, a partial function, a method or a callable object.
    """
    modules = (sys.modules.get(name) for name in _modules_of(function))
    files = [getattr(module, "__file__", None) for module in modules]
    return [Path(file).resolve().parent for file in files if file and not _in_library(file)]


def _modules_of(function: Any) -> Iterator[str]:
    if isinstance(function, functools.partial):
        yield from _modules_of(function.func)
    elif isinstance(function, types.MethodType):
        yield from _modules_of(function.__func__)
    elif isinstance(function, types.FunctionType):
        yield function.__module__
    else:
        yield type(function).__module__


def _in_library(file: str) -> bool:
    path = str(Path(file).resolve())
    return path.startswith(_LIBRARIES) or "site-packages" in path or "dist-packages" in path


class _Found:
    """The texts of the statements that a function reaches."""

    def __init__(self) -> None:
        self.texts: set[str] = set()
        self._tops: set[str] = set()  # top-level packages of the functions taken
        self._visited: set[tuple[str, str]] = set()
        self._taken: set[int] = set()

    def take(self, value: Any) -> None:
        """Adds everything that a function or a value bound to it reaches."""
        if isinstance(value, (*_PLAIN, Path)):
            self.texts.add(repr(value))
            return
        if id(value) in self._taken:
            return
        self._taken.add(id(value))
        if isinstance(value, functools.partial):
            for part in (value.func, value.args, value.keywords):
                self.take(part)
        elif isinstance(value, types.MethodType):
            self.take(value.__func__)
            self.take(value.__self__)
        elif isinstance(value, types.FunctionType):
            self._take_function(value)
        elif isinstance(value, dict):
            for key, item in value.items():
                self.texts.add(f"{key!r}: {item!r}" if isinstance(item, _PLAIN) else repr(key))
                self.take(item)
        elif isinstance(value, list | tuple | set | frozenset):
            self.texts.add(repr([item for item in value if isinstance(item, _PLAIN)]))
            for item in value:
                self.take(item)
        elif isinstance(value, type):
            self._take_named(value.__module__, value.__qualname__)
        elif not isinstance(value, types.ModuleType | types.BuiltinFunctionType):
            self.take(type(value))
            self.take(getattr(value, "__dict__", {}))

    def _take_function(self, function: types.FunctionType) -> None:
        if not self._take_named(function.__module__, function.__qualname__, function.__code__):
            # A function typed into a shell has no source text, only compiled code.
            self.texts.add(marshal.dumps(function.__code__).hex())
        # A shipped data set has another name for each choice of its options.
        shipped = function.__module__.partition(".")[0] == _PACKAGE
        for cell in function.__closure__ or ():
            try:
                bound = cell.cell_contents
            except ValueError:
                continue  # not bound yet
            if not shipped or isinstance(bound, types.FunctionType | functools.partial):
                self.take(bound)

    def _take_named(self, module: str, name: str, code: types.CodeType | None = None) -> bool:
        """Visits the statements of a module that contain a function or class.

        Returns:
            False if the module has no source text.
        """
        file = getattr(sys.modules.get(module), "__file__", None)
        top = module.partition(".")[0]
        if code is None and top not in self._tops and (file is None or _in_library(file)):
            return True  # a class of Python or of a library
        self._tops.add(top)
        read = _module(module)
        if read is None:
            return False
        if code is not None:
            for number in read.around(code.co_firstlineno):
                self._add(module, read, number)
        else:
            self._visit(module, name.partition(".")[0], ())
        return True

    def _counts(self, module: str) -> bool:
        if module in _PLUMBING:
            return False
        top = module.partition(".")[0]
        if top == _PACKAGE:
            return self._tops == {_PACKAGE} and module.startswith(f"{_PACKAGE}.data.")
        if top in self._tops:
            return True
        file = _file_of(module)
        return file is not None and not _in_library(file)

    def _visit(self, module: str, name: str, chain: tuple[str, ...]) -> None:
        """Follows `name.chain[0].chain[1]...` as it appears in the code of a module."""
        if (module, ".".join((name, *chain))) in self._visited or not self._counts(module):
            return
        self._visited.add((module, ".".join((name, *chain))))
        read = _module(module)
        if read is None:
            return
        if name in read.imports:
            target, attribute = read.imports[name]
            inner = f"{target}.{attribute}"
            if attribute is not None and not (self._counts(inner) and _module(inner)):
                self._visit(target, attribute, chain)
                return
            target = target if attribute is None else inner
            while (
                chain and self._counts(f"{target}.{chain[0]}") and _module(f"{target}.{chain[0]}")
            ):
                target, chain = f"{target}.{chain[0]}", chain[1:]
            if chain:
                self._visit(target, chain[0], chain[1:])
            elif attribute is not None:
                self._visit_all(target)  # the module itself is passed on
            return
        if name in read.defined:
            for number in read.defined[name]:
                self._add(module, read, number)
            return
        for target in read.stars:
            self._visit(target, name, chain)

    def _visit_all(self, module: str) -> None:
        read = _module(module) if self._counts(module) else None
        for number in range(len(read.statements)) if read else ():
            self._add(module, read, number)

    def _add(self, module: str, read: "_Module | None", number: int) -> None:
        assert read is not None
        if (module, f"#{number}") in self._visited:
            return
        self._visited.add((module, f"#{number}"))
        self.texts.add(read.text(number))
        for name, chain in read.used(number):
            self._visit(module, name, chain)


class _Module:
    """The statements of a module, and the names that they define, import and use."""

    def __init__(self, name: str, file: str, text: str) -> None:
        self.file = file
        self.statements = ast.parse(text).body
        self.defined: dict[str, list[int]] = {}
        self.imports: dict[str, tuple[str, str | None]] = {}
        self.stars: list[str] = []
        package = name if Path(file).name == "__init__.py" else name.rpartition(".")[0]
        for statement in self.statements:
            for node in ast.walk(statement):
                self._import(node, package)
        for number, statement in enumerate(self.statements):
            for bound in _bound(statement):
                self.defined.setdefault(bound, []).append(number)

    def _import(self, node: ast.AST, package: str) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                self.imports[bound] = (alias.name if alias.asname else bound, None)
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            target = importlib.util.resolve_name(relative, package) if node.level else relative
            for alias in node.names:
                if alias.name == "*":
                    self.stars.append(target)
                else:
                    self.imports[alias.asname or alias.name] = (target, alias.name)

    def around(self, line: int) -> list[int]:
        """Returns the indices of the statements that contain a line."""
        numbers = []
        for number, statement in enumerate(self.statements):
            decorators = getattr(statement, "decorator_list", [])
            first = min([statement.lineno, *(d.lineno for d in decorators)])
            if first <= line <= (statement.end_lineno or first):
                numbers.append(number)
        return numbers

    def text(self, number: int) -> str:
        """Returns a statement without comments, docstrings and layout."""
        statement = ast.parse(ast.unparse(self.statements[number]))
        for node in ast.walk(statement):
            body = getattr(node, "body", None)
            if isinstance(body, list) and body and _is_text(body[0]):
                body[:1] = [] if len(body) > 1 else [ast.Pass()]
        return ast.unparse(statement)

    def used(self, number: int) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yields the names that a statement reads, each with the attributes that follow it."""
        inner: set[int] = set()
        for node in ast.walk(self.statements[number]):
            if id(node) in inner:
                continue
            chain: list[str] = []
            while isinstance(node, ast.Attribute):
                chain.insert(0, node.attr)
                node = node.value
                inner.add(id(node))
            if isinstance(node, ast.Name):
                yield node.id, tuple(chain)


def _bound(statement: ast.stmt) -> set[str]:
    """Returns the names that a statement of a module binds or modifies."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return set()
    names = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
    if isinstance(statement, ast.Expr):
        return {node.id for node in names}  # such as TABLE.append(1)
    inner = (n for n in ast.walk(statement) if isinstance(n, ast.FunctionDef | ast.ClassDef))
    return {n.id for n in names if isinstance(n.ctx, ast.Store)} | {n.name for n in inner}


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _module(name: str) -> _Module | None:
    """Returns a module by name, imported or not; None if there is none or it has no source text."""
    file = _file_of(name)
    if file is None or not file.endswith(".py"):
        return None
    try:
        return _read(name, file, Path(file).stat().st_mtime_ns)
    except (OSError, SyntaxError, ValueError):
        return None


def _file_of(name: str) -> str | None:
    """Returns the file of a module without importing it; None if there is none."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__file__", None)
    package, _, last = name.rpartition(".")
    if not package:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            return None
        return spec.origin if spec else None
    around = _file_of(package)
    if around is None or Path(around).name != "__init__.py":
        return None
    places = [Path(around).parent / f"{last}.py", Path(around).parent / last / "__init__.py"]
    return next((str(place) for place in places if place.is_file()), None)


@functools.lru_cache(maxsize=256)
def _read(name: str, file: str, stamp: int) -> _Module:
    del stamp  # It is only an argument so that a changed file is read anew.
    return _Module(name, file, Path(file).read_text())
