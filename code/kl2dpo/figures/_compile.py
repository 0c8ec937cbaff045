"""Expressions of SymPy, compiled twice: to JavaScript, and for NumPy."""

import hashlib
import json
import re
from functools import cache, cached_property

import numpy as np
import sympy as sp
from sympy.codegen.cfunctions import log1p
from sympy.core.function import AppliedUndef
from sympy.utilities.lambdify import implemented_function

INTERVALS = 400  # An integral is a trapezoidal sum with this many intervals.


def stored(values):
    """Numbers that no formula gives, such as those of a run, as a SymPy function of their position.

    Positions are whole numbers from 0. Values are kept to nine digits: the last ones differ
    between machines.

    Examples
    --------
    >>> k = sp.Symbol("k")
    >>> loss = stored([0.69, 0.5, 0.4])
    >>> Program([k], loss(k) * 2).numpy([1])
    [1.0]
    """
    return _table(tuple(float(f"{x:.9g}") for x in values))


@cache
def _table(values):
    def at(k):
        k = np.asarray(k)
        inside = (k >= 0) & (k < len(values))
        return np.where(inside, np.array(values)[np.where(inside, k, 0).astype(int)], np.nan)

    at.values = values
    # Named by what it holds: SymPy takes functions of one name for one function.
    name = hashlib.sha256(repr(values).encode()).hexdigest()[:12]
    return implemented_function(f"stored_{name}", at)


def _number(name):
    return sp.Symbol(name, real=True)


class Program:
    """Outputs, each an expression of the symbols, or (expression, symbol, values): one number a value.

    `javascript` is the text of a function from an array of the symbols' values to one of the
    outputs', and `numpy` that function. Sums and integrals need one variable, from number to number.
    """

    def __init__(self, symbols, *outputs):
        self.symbols, self.outputs = list(symbols), []
        for output in outputs:
            self.add("an output", output)

    def add(self, name, output):
        """Add an output, and return its place; an error speaks of it by its name."""
        curve = isinstance(output, tuple)
        e = output[0] if curve else output
        # Neither True, which is 1 in Python, nor text, which SymPy would read.
        if not isinstance(e, (int, float, np.number, sp.Expr)) or isinstance(e, bool):
            raise ValueError(f"{name} is {e!r}, expected an expression")
        e = sp.sympify(e)
        inner = {output[1]} if curve else set()
        if odd := e.free_symbols - {*self.symbols} - inner:
            odd = sorted(map(str, odd))
            raise ValueError(f"{name} has {odd}, expected inputs and states only: {self.symbols}")
        for part in e.atoms(sp.Integral, sp.Sum):
            (u, *ends), *more = part.limits
            if more or len(ends) != 2 or not all(b.is_number and b.is_finite for b in ends):
                raise ValueError(f"{name} has {part}, expected one variable between two numbers")
        self.outputs.append((e, *output[1:]) if curve else e)
        return len(self.outputs) - 1

    @cached_property
    def _parts(self):
        """Names of expressions in the order of their use: sums and integrals, numbers, curves.

        The first and the last are loops: [variable, what it runs over, {name: expression}].
        """
        names = {s: _number(f"v{k}") for k, s in enumerate(self.symbols)}
        loops, known, data = {}, {}, {}

        def one_and_more(e):
            return isinstance(e, sp.log) and e.args[0].is_Add and sp.S.One in e.args[0].args

        def plain(e):
            for part in sorted(e.atoms(sp.Integral, sp.Sum), key=sp.default_sort_key):
                if part not in known:
                    u, low, high = part.limits[0]
                    loop = loops.setdefault((type(part), low, high), [type(part), low, high, {}])
                    known[part] = _number(f"i{len(known)}")
                    loop[3][known[part]] = plain(part.function.xreplace({u: _number("u")}))
            for part in sorted(e.atoms(AppliedUndef), key=sp.default_sort_key):
                if hasattr(part.func, "_imp_"):
                    data.setdefault(part.func, f"d{len(data)}")
            # log(1 + w) loses the digits of a small w.
            e = e.xreplace(known).xreplace(names)
            return e.replace(one_and_more, lambda e: log1p(e.args[0] - 1))

        numbers, curves = {}, {}
        for k, output in enumerate(self.outputs):
            if isinstance(output, tuple):
                e, over, values = output
                # To twelve digits, which are the same on every machine.
                values = tuple(float(f"{x:.12g}") for x in values)
                loop = curves.setdefault(values, [values, {}])
                loop[1][f"o{k}"] = plain(e.xreplace({over: _number("w")}))
            else:
                numbers[f"o{k}"] = plain(output)
        return [*loops.values()], numbers, [*curves.values()], data

    @cached_property
    def javascript(self):
        sums, numbers, curves, data = self._parts
        new = sp.numbered_symbols("t", real=True)
        functions = {"log1p": "Math.log1p"} | {
            name: [(lambda *_: True, lambda k, name=name: f"d[{name[1:]}][Math.round({k})]")]
            for name in data.values()
        }

        def code(e):
            e = e.replace(
                lambda x: x.func in data, lambda x: sp.Function(data[x.func])(*x.args)
            )
            try:
                text = sp.jscode(e, user_functions=functions)
            except NotImplementedError as error:
                reason = str(error).splitlines()[0]
                raise ValueError(f"{e} has no JavaScript: {reason}") from None
            # Not all that has no JavaScript is refused: I, True and Sum are printed as they are.
            words = set(re.findall(r"(?<![\w.])[A-Za-z_]\w*", text)) - {"Math", "Number", "d"}
            if odd := words - {str(s) for s in e.free_symbols}:
                raise ValueError(f"{e} has no JavaScript for {sorted(odd)}")
            return re.sub(r"\s+", " ", text)

        def block(named, variable=None):
            """What is computed before a loop over the variable, in it, and the last lines of it."""
            short, full = sp.cse([*named.values()], symbols=new, order="canonical")
            inside, lines = {variable}, ([], [])
            for name, e in short:
                moves = bool(inside & {str(s) for s in e.free_symbols})
                inside |= {str(name)} if moves else set()
                lines[moves].append(f"const {name}={code(e)};")
            return "".join(lines[0]), "".join(lines[1]), dict(zip(named, map(code, full)))

        text = f"([{','.join(f'v{k}' for k in range(len(self.symbols)))}])=>{{"
        for kind, low, high, named in sums:
            before, within, ends = block(named, "u")
            n, step = _steps(kind, low, high)
            weight = f"{step!r}*(k%{n}?1:.5)*" if kind is sp.Integral else ""
            text += f"let {','.join(f'{name}=0' for name in named)};{before}"
            text += f"for(let k=0;k<={n};k++){{const u={float(low)!r}+k*{step!r};{within}"
            text += "".join(f"{name}+={weight}({e});" for name, e in ends.items()) + "}"
        before, _, ends = block(numbers)
        text += before + "".join(f"const {name}={e};" for name, e in ends.items())
        for values, named in curves:
            before, within, ends = block(named, "w")
            grid = json.dumps(values, separators=(",", ":"))
            text += f"const {','.join(f'{name}=[]' for name in named)};{before}"
            text += f"for(const w of {grid}){{{within}"
            text += "".join(f"{name}.push({e});" for name, e in ends.items()) + "}"
        text += f"return[{','.join(f'o{k}' for k in range(len(self.outputs)))}]}}"
        if data:
            tables = json.dumps([f._imp_.values for f in data], separators=(",", ":"))
            text = f"(d=>{text})({tables})"
        return text

    @cached_property
    def _functions(self):
        """The expressions of the parts as functions of NumPy."""
        sums, numbers, curves, _ = self._parts
        names = [_number(f"v{k}") for k in range(len(self.symbols))]
        names += [name for *_, named in sums for name in named]

        def function(named, *variable):
            return sp.lambdify([*names, *variable], [*named.values()], "numpy", cse=True)

        return (
            [function(named, _number("u")) for *_, named in sums],
            function(numbers),
            [function(named, _number("w")) for _, named in curves],
        )

    def numpy(self, values):
        """The outputs at these values of the symbols: floats, and an array for each curve."""
        sums, numbers, curves, _ = self._parts
        of_sums, of_numbers, of_curves = self._functions
        values = [*map(np.float64, values)]
        # A sum does not depend on another one; the names in front of it must still have a value.
        names = len(values) + sum(len(named) for *_, named in sums)
        with np.errstate(all="ignore"):
            found = []
            for (kind, low, high, _), f in zip(sums, of_sums):
                n, step = _steps(kind, low, high)
                weights = np.ones(n + 1)
                if kind is sp.Integral:
                    weights = step * np.r_[0.5, weights[2:], 0.5]
                u = float(low) + step * np.arange(n + 1)
                given = [*values, *found]
                given += [np.nan] * (names - len(given))
                found += [np.float64(np.sum(weights * e)) for e in f(*given, u)]
            values += found
            out = {name: float(e) for name, e in zip(numbers, of_numbers(*values))}
            for (grid, named), f in zip(curves, of_curves):
                shown = f(*values, np.array(grid))
                out |= {name: np.broadcast_to(e, len(grid)) for name, e in zip(named, shown)}
        return [out[f"o{k}"] for k in range(len(self.outputs))]


def _steps(kind, low, high):
    n = INTERVALS if kind is sp.Integral else int(high - low)
    return n, float(high - low) / n if n else 1.0
