"""Expressions of SymPy, compiled twice: to JavaScript, and for NumPy."""

import hashlib
import json
import re
from functools import cache, cached_property

import numpy as np
import sympy as sp
from sympy.codegen.cfunctions import log1p
from sympy.core.function import AppliedUndef
from sympy.printing.jscode import JavascriptCodePrinter
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


class _JavaScript(JavascriptCodePrinter):
    """Prints an expression with these names of its symbols."""

    def __init__(self, names):
        super().__init__({"user_functions": {"log1p": "Math.log1p"}})
        self.names = names

    def _print_Symbol(self, e):
        return self.names[e]

    def _print_AppliedUndef(self, e):
        # The tables of what is stored stand before the function.
        return f"d[{self.names[e.func]}][Math.round({self._print(e.args[0])})]"

    def code(self, e):
        try:
            text = self.doprint(e)
        except (NotImplementedError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{e} has no JavaScript: {reason}") from None
        # Not all that has no JavaScript is refused: I, True and Sum are printed as they are.
        words = set(re.findall(r"(?<![\w.])[A-Za-z_]\w*", text))
        if odd := words - {"Math", "Number", "d"} - {*map(str, self.names.values())}:
            raise ValueError(f"{e} has no JavaScript for {sorted(odd)}")
        return re.sub(r"\s+", " ", text)


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
            (_, *ends), *more = part.limits
            more = more or part.function.has(sp.Integral, sp.Sum)
            if more or len(ends) != 2 or not all(b.is_number and b.is_finite for b in ends):
                raise ValueError(f"{name} has {part}, expected one variable between two numbers")
        self.outputs.append((e, *output[1:]) if curve else e)
        return len(self.outputs) - 1

    @property
    def _expressions(self):
        return [e[0] if isinstance(e, tuple) else e for e in self.outputs]

    @property
    def free_symbols(self):
        return set().union(*(e.free_symbols for e in self._expressions))

    @cached_property
    def _parts(self):
        """Sums and integrals, numbers, and curves; the first and the last are loops.

        A loop is [variable, what it runs over, {name: expression}]; the name of a sum is a symbol
        that stands for it in the others.
        """
        sums, known, numbers, curves = {}, {}, {}, {}

        def plain(e):
            for part in sorted(e.atoms(sp.Integral, sp.Sum), key=sp.default_sort_key):
                if part not in known:
                    u, low, high = part.limits[0]
                    over = type(part), low, high
                    loop = sums.setdefault((u, *over), [u, over, {}])
                    known[part] = sp.Symbol(f"_i{len(known)}", real=True)
                    loop[2][known[part]] = plain(part.function)
            e = e.xreplace(known) if known else e

            # log(1 + w) loses the digits of a small w.
            def one_and_more(e):
                return isinstance(e, sp.log) and e.args[0].is_Add and sp.S.One in e.args[0].args

            return e.replace(one_and_more, lambda e: log1p(e.args[0] - 1))

        for k, output in enumerate(self.outputs):
            if isinstance(output, tuple):
                e, over, values = output
                # To twelve digits, which are the same on every machine.
                values = tuple(float(f"{x:.12g}") for x in values)
                loop = curves.setdefault((over, values), [over, values, {}])
                loop[2][f"o{k}"] = plain(e)
            else:
                numbers[f"o{k}"] = plain(output)
        return [*sums.values()], numbers, [*curves.values()]

    @cached_property
    def javascript(self):
        sums, numbers, curves = self._parts
        names = {s: f"v{k}" for k, s in enumerate(self.symbols)}
        names |= {s: f"i{str(s)[2:]}" for *_, named in sums for s in named}
        tables = sorted({e.func for x in self._expressions for e in x.atoms(AppliedUndef)}, key=str)
        names |= {f: k for k, f in enumerate(f for f in tables if hasattr(f, "_imp_"))}
        new = sp.numbered_symbols("_t", real=True)

        def block(named, variable=None, letter=""):
            """What is computed before a loop over the variable, in it, and the last lines of it."""
            short, full = sp.cse([*named.values()], symbols=new, order="canonical")
            printer = _JavaScript(names | {variable: letter} | {t: str(t)[1:] for t, _ in short})
            inside, lines = {variable}, ([], [])
            for t, e in short:
                moves = bool(inside & e.free_symbols)
                inside |= {t} if moves else set()
                lines[moves].append(f"const {printer.names[t]}={printer.code(e)};")
            ends = {names.get(name, name): e for name, e in zip(named, map(printer.code, full))}
            return "".join(lines[0]), "".join(lines[1]), ends

        text = f"([{','.join(f'v{k}' for k in range(len(self.symbols)))}])=>{{"
        for variable, (kind, low, high), named in sums:
            before, within, ends = block(named, variable, "u")
            n, step = _steps(kind, low, high)
            weight = f"(k%{n}?{step!r}:{step / 2!r})*" if kind is sp.Integral else ""
            text += f"let {','.join(f'{name}=0' for name in ends)};{before}"
            text += f"for(let k=0;k<={n};k++){{const u={float(low)!r}+k*{step!r};{within}"
            text += "".join(f"{name}+={weight}({e});" for name, e in ends.items()) + "}"
        before, _, ends = block(numbers)
        text += before + "".join(f"const {name}={e};" for name, e in ends.items())
        for variable, values, named in curves:
            before, within, ends = block(named, variable, "w")
            grid = json.dumps(values, separators=(",", ":"))
            text += f"const {','.join(f'{name}=[]' for name in ends)};{before}"
            text += f"for(const w of {grid}){{{within}"
            text += "".join(f"{name}.push({e});" for name, e in ends.items()) + "}"
        text += f"return[{','.join(f'o{k}' for k in range(len(self.outputs)))}]}}"
        data = [f._imp_.values for f in names if hasattr(f, "_imp_")]
        return f"(d=>{text})({json.dumps(data, separators=(',', ':'))})" if data else text

    @cached_property
    def _functions(self):
        """The expressions of the parts as functions of NumPy, from a dict of the symbols' values."""
        sums, numbers, curves = self._parts
        known = {*self.symbols, *(name for *_, named in sums for name in named)}

        def function(named, *variable):
            symbols = sorted(known.union(variable), key=str)
            f = sp.lambdify(symbols, [*named.values()], "numpy", cse=True)
            return lambda values: f(*(values.get(s, np.nan) for s in symbols))

        return (
            [function(named, variable) for variable, _, named in sums],
            function(numbers),
            [function(named, variable) for variable, _, named in curves],
        )

    def numpy(self, values):
        """The outputs at these values of the symbols: floats, and an array for each curve."""
        sums, numbers, curves = self._parts
        of_sums, of_numbers, of_curves = self._functions
        known = dict(zip(self.symbols, map(np.float64, values)))
        with np.errstate(all="ignore"):
            for (variable, (kind, low, high), named), f in zip(sums, of_sums):
                n, step = _steps(kind, low, high)
                weights = np.ones(n + 1)
                if kind is sp.Integral:
                    weights = step * np.r_[0.5, weights[2:], 0.5]
                found = f(known | {variable: float(low) + step * np.arange(n + 1)})
                known |= {name: np.float64(np.sum(weights * e)) for name, e in zip(named, found)}
            out = {name: float(e) for name, e in zip(numbers, of_numbers(known))}
            for (variable, grid, named), f in zip(curves, of_curves):
                found = f(known | {variable: np.array(grid)})
                out |= {name: np.broadcast_to(e, len(grid)) for name, e in zip(named, found)}
        return [out[f"o{k}"] for k in range(len(self.outputs))]


def _steps(kind, low, high):
    n = INTERVALS if kind is sp.Integral else int(high - low)
    return n, float(high - low) / n if n else 1.0
