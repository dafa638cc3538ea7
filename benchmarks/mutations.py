"""The small faults that ``mutants.py`` puts into a module, one at a time."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS = {
    ast.Lt: ("<=", ">="),
    ast.LtE: ("<", ">"),
    ast.Gt: (">=", "<="),
    ast.GtE: (">", "<"),
    ast.Eq: ("!=",),
    ast.NotEq: ("==",),
    ast.Is: ("is not",),
    ast.IsNot: ("is",),
    ast.In: ("not in",),
    ast.NotIn: ("in",),
}
ARITHMETIC = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.FloorDiv: "*",
    ast.Mod: "*",
    ast.Pow: "*",
    ast.BitAnd: "|",
    ast.BitOr: "&",
}


@dataclass(frozen=True)
class Mutant:
    """One change of a module's text.

    Attributes:
        kind: what was done, as ``comparison`` or ``dropped call``.
        first: first line of the statement that it stands in, from 1.
        last: last line of that statement; of a compound one, of its head.
        start: where the changed text begins, in bytes.
        end: where it ends.
        new: what stands there instead.
    """

    kind: str
    first: int
    last: int
    start: int
    end: int
    new: str

    def applied(self, text: str) -> str:
        """The module with this fault."""
        raw = text.encode()
        return (raw[: self.start] + self.new.encode() + raw[self.end :]).decode()

    def shown(self, text: str) -> str:
        """Where it is, and the changed lines before and after."""
        raw = text.encode()
        head, tail = raw.rfind(b"\n", 0, self.start) + 1, raw.find(b"\n", self.end) % (len(raw) + 1)
        before = raw[head:tail].decode()
        after = (raw[head : self.start] + self.new.encode() + raw[self.end : tail]).decode()
        one, other = (" ".join(line.split()) for line in (before, after))
        line = raw[: self.start].count(b"\n") + 1
        return f"{line}: {one}  =>  {other}"


def mutants_of(text: str) -> list[Mutant]:
    """All faults for a module's text, in the order they stand in; those that don't compile are left out.

    What only speaks is left alone: docstrings, annotations, f-strings, the words of an exception, and asserts that
    tell a type checker what it can't see. So is ``device=``, whose loss a machine without a GPU can't notice.
    """
    finder = _Finder(text)
    finder.visit(ast.parse(text))
    found = []
    for mutant in sorted(set(finder.found), key=lambda m: (m.start, m.end, m.kind, m.new)):
        try:
            compile(mutant.applied(text), "mutant", "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            continue
        found.append(mutant)
    return found


class _Finder(ast.NodeVisitor):
    """Walks over a module and notes every fault that could be put into it."""

    def __init__(self, text: str) -> None:
        self.found: list[Mutant] = []
        self._text = text
        starts = [0]
        for line in text.encode().splitlines(keepends=True):
            starts.append(starts[-1] + len(line))
        self._starts = starts
        self._span = (1, 1)
        self._modules: set[str] = set()

    def _place(self, line: int | None, column: int | None) -> int:
        assert line is not None
        assert column is not None
        return self._starts[line - 1] + column

    def _bounds(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        return self._place(node.lineno, node.col_offset), self._place(node.end_lineno, node.end_col_offset)

    def _source(self, node: ast.AST) -> str:
        """A node's text, in brackets where it needs them: its own are not part of it."""
        text = ast.get_source_segment(self._text, node) or ""
        whole = (
            ast.Name,
            ast.Attribute,
            ast.Call,
            ast.Constant,
            ast.Subscript,
            ast.List,
            ast.keyword,
            ast.Starred,
        )
        return text if isinstance(node, whole) else f"({text})"

    def _note(self, kind: str, node: ast.expr | ast.stmt, new: str) -> None:
        self.found.append(Mutant(kind, *self._span, *self._bounds(node), new))

    def visit(self, node: ast.AST) -> None:
        """Remember the statement that comes, then go on as ever."""
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            last = body[0].lineno - 1 if body else node.end_lineno or node.lineno
            self._span = (node.lineno, max(node.lineno, last))
            self._statement(node)
        super().visit(node)

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Raise() | ast.Delete():
                self._note("dropped statement", node, "pass")
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in _names(value):
                self._note("dropped statement", node, "pass")
            case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
                self._note("dropped statement", node, "pass")
            case ast.Break() | ast.Continue():
                self._note("loop", node, "continue" if isinstance(node, ast.Break) else "break")
            case ast.If(test=test) | ast.While(test=test):
                self._note("condition", test, "False")
                if isinstance(node, ast.If):
                    self._note("condition", test, "True")

    def visit_Import(self, node: ast.Import) -> None:
        """Keep the names of modules: what is called on them is no method."""
        self._modules |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """As of plain imports; a name in lower letters may be a module."""
        self._modules |= {name for alias in node.names if (name := alias.asname or alias.name).islower()}

    def visit_Raise(self, node: ast.Raise) -> None:
        """Only as a whole."""

    def visit_Assert(self, node: ast.Assert) -> None:
        """Never."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Never: before Python 3.12 nobody knows where its parts stand."""

    def visit_Expr(self, node: ast.Expr) -> None:
        """Leave docstrings alone."""
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Leave the annotation alone."""
        if node.value is not None:
            self.visit(node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Leave the signature alone, but for defaults."""
        for value in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(value)
        for statement in node.body:
            self.visit(statement)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Leave decorators and bases alone."""
        for statement in node.body:
            self.visit(statement)

    def visit_Compare(self, node: ast.Compare) -> None:
        """Put the bound inside or outside, or turn the answer round."""
        if len(node.ops) == 1:
            left, right = self._source(node.left), self._source(node.comparators[0])
            for new in COMPARISONS[type(node.ops[0])]:
                self._note("comparison", node, f"{left} {new} {right}")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """Take another operator."""
        if new := ARITHMETIC.get(type(node.op)):
            self._note("arithmetic", node, f"({self._source(node.left)} {new} {self._source(node.right)})")
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        """Take the other word, or leave out an operand."""
        parts = [self._source(value) for value in node.values]
        word, other = (" and ", " or ") if isinstance(node.op, ast.And) else (" or ", " and ")
        self._note("and, or", node, f"({other.join(parts)})")
        for place in range(len(parts)):
            self._note("and, or", node, f"({word.join(parts[:place] + parts[place + 1 :])})")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        """Drop the sign or the not."""
        self._note("dropped sign", node, self._source(node.operand))
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        """Take one side always."""
        self._note("condition", node.test, "True")
        self._note("condition", node.test, "False")
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """Drop a transpose."""
        if node.attr in ("T", "mT"):
            self._note("dropped call", node, self._source(node.value))
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        """Drop the call, swap neighbouring arguments, drop an option."""
        method = isinstance(node.func, ast.Attribute) and not (
            isinstance(node.func.value, ast.Name) and node.func.value.id in self._modules
        )
        if method:
            self._note("dropped call", node, self._source(node.func.value))  # type: ignore[attr-defined]
        elif node.args and not isinstance(node.args[0], ast.Starred | ast.GeneratorExp):
            self._note("dropped call", node, self._source(node.args[0]))
        for one, other in zip(node.args[:-1], node.args[1:], strict=True):
            if self._source(one) != self._source(other):
                start, end = self._bounds(one)[0], self._bounds(other)[1]
                between = self._text.encode()[self._bounds(one)[1] : self._bounds(other)[0]].decode()
                new = self._source(other) + between + self._source(one)
                self.found.append(Mutant("swapped arguments", *self._span, start, end, new))
        for keyword in node.keywords:
            if keyword.arg and keyword.arg != "device":
                self._note("dropped option", node, self._without(node, keyword))
            if isinstance(keyword.value, ast.Constant) and type(keyword.value.value) is int:
                self._note("constant", keyword.value, str(keyword.value.value - 1))
        for value in node.args:
            if method and isinstance(value, ast.Constant) and type(value.value) is int:
                self._note("constant", value, str(value.value - 1))
        self.generic_visit(node)

    def _without(self, node: ast.Call, dropped: ast.keyword) -> str:
        kept = [self._source(part) for part in (*node.args, *node.keywords) if part is not dropped]
        return f"{self._source(node.func)}({', '.join(kept)})"

    def visit_Constant(self, node: ast.Constant) -> None:
        """Take another value."""
        match node.value:
            case bool():
                self._note("constant", node, str(not node.value))
            case int():
                self._note("constant", node, str(node.value + 1))
            case float():
                self._note("constant", node, repr(node.value * 2 or 1.0))
            case str() if node.value:
                self._note("constant", node, repr(node.value[::-1] + "?"))


def _names(node: ast.AST) -> Iterator[str]:
    return (part.id for part in ast.walk(node) if isinstance(part, ast.Name))
