"""Writes native functions: a thin layer over llvmlite that makes a kernel read like arithmetic.

``Function`` is one function under construction; ``Value`` a number, vector or address in it, with
Python's operators. A scalar beside a vector stands for a vector of that scalar. Knows nothing of
what is computed, and of no CPU: LLVM turns vectors of 16 numbers into whatever registers there are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

from llvmlite import ir

LANES = 16
"""Numbers in a vector, on every CPU: the packed weights have panels of so many rows."""

I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
F16, F32 = ir.HalfType(), ir.FloatType()
POINTER = ir.PointerType()

_SIZES = {I8: 1, I16: 2, F16: 2, I32: 4, F32: 4, I64: 8, POINTER: 8}

# Sums of a vector's lanes may be formed in any order.
_ANY_ORDER = ("reassoc",)


def vector(scalar: ir.Type, lanes: int = LANES) -> ir.VectorType:
    """The type of ``lanes`` numbers."""
    return ir.VectorType(scalar, lanes)


def scalar_of(kind: ir.Type) -> ir.Type:
    """The type of one number of a vector; others are their own."""
    return kind.element if isinstance(kind, ir.VectorType) else kind


class Value:
    """A number, vector or address in a function under construction."""

    def __init__(self, function: Function, raw: ir.Value) -> None:
        self.function = function
        self.raw = raw

    @property
    def type(self) -> ir.Type:
        """Its LLVM type."""
        return self.raw.type

    @property
    def is_float(self) -> bool:
        """Whether it is made of floats."""
        return scalar_of(self.type) in (F16, F32)

    def __add__(self, other: Value | float) -> Value:
        return self._binary(other, "fadd", "add")

    def __sub__(self, other: Value | float) -> Value:
        return self._binary(other, "fsub", "sub")

    def __mul__(self, other: Value | float) -> Value:
        return self._binary(other, "fmul", "mul")

    def __truediv__(self, other: Value | float) -> Value:
        return self._binary(other, "fdiv", "sdiv")

    def __floordiv__(self, other: Value | int) -> Value:
        """For whole numbers that are not negative."""
        return self._binary(other, "fdiv", "udiv")

    def __mod__(self, other: Value | int) -> Value:
        """For whole numbers that are not negative."""
        return self._binary(other, "frem", "urem")

    def __and__(self, other: Value | int) -> Value:
        return self._binary(other, "and_", "and_")

    def __lshift__(self, other: Value | int) -> Value:
        return self._binary(other, "shl", "shl")

    def __rshift__(self, other: Value | int) -> Value:
        """Zeros come in from the left."""
        return self._binary(other, "lshr", "lshr")

    def __radd__(self, other: float) -> Value:
        return self.function.like(other, self) + self

    def __rsub__(self, other: float) -> Value:
        return self.function.like(other, self) - self

    def __rtruediv__(self, other: float) -> Value:
        return self.function.like(other, self) / self

    def __lt__(self, other: Value | float) -> Value:
        return self._compare("<", other)

    def __gt__(self, other: Value | float) -> Value:
        return self._compare(">", other)

    def equals(self, other: Value | int) -> Value:
        """Whether they are the same, lane by lane."""
        return self._compare("==", other)

    def times(self, factor: Value | float, plus: Value | float) -> Value:
        """``self * factor + plus``, rounded once."""
        name = f"llvm.fma.{_suffix(self.type)}"
        operands = (self, self.function.like(factor, self), self.function.like(plus, self))
        return self.function.call(name, self.type, *operands)

    def splat(self, lanes: int = LANES) -> Value:
        """A vector with this number in every lane."""
        build = self.function.build
        empty = ir.Constant(vector(self.type, lanes), ir.Undefined)
        first = build.insert_element(empty, self.raw, ir.Constant(I32, 0))
        zeros = ir.Constant(vector(I32, lanes), None)
        return Value(self.function, build.shuffle_vector(first, empty, zeros))

    def lane(self, number: int) -> Value:
        """One number of a vector."""
        return Value(
            self.function, self.function.build.extract_element(self.raw, ir.Constant(I32, number))
        )

    def lanes(self, *numbers: int) -> Value:
        """A vector of some of its numbers, in this order."""
        mask = ir.Constant(vector(I32, len(numbers)), list(numbers))
        shuffled = self.function.build.shuffle_vector(self.raw, self.raw, mask)
        return Value(self.function, shuffled)

    def beside(self, other: Value) -> Value:
        """One vector of this one's numbers and the other's."""
        count = 2 * self.type.count
        mask = ir.Constant(vector(I32, count), list(range(count)))
        return Value(self.function, self.function.build.shuffle_vector(self.raw, other.raw, mask))

    def to(self, scalar: ir.Type) -> Value:
        """The same numbers in another type; whole numbers keep their sign."""
        kind = scalar
        if isinstance(self.type, ir.VectorType):
            kind = vector(scalar, self.type.count)
        old, build = scalar_of(self.type), self.function.build
        if old == scalar:
            return self
        if old in (F16, F32):
            if scalar in (F16, F32):
                convert = build.fpext if scalar == F32 else build.fptrunc
            else:
                convert = build.fptosi
        elif scalar in (F16, F32):
            convert = build.sitofp
        else:
            convert = build.sext if scalar.width > old.width else build.trunc
        return Value(self.function, convert(self.raw, kind))

    def bits_as(self, kind: ir.Type) -> Value:
        """The same bits, read as another type."""
        return Value(self.function, self.function.build.bitcast(self.raw, kind))

    def at(self, offset: Value | int) -> Value:
        """The address so many bytes behind this one."""
        offset = self.function.whole(offset)
        build = self.function.build
        return Value(self.function, build.gep(self.raw, [offset.raw], source_etype=I8))

    def load(self, kind: ir.Type, index: Value | int = 0) -> Value:
        """What stands at this address: number ``index`` of an array of ``kind``'s numbers.

        A vector is that number and those behind it.
        """
        place = self._place(kind, index)
        align = _SIZES[scalar_of(kind)]
        return Value(self.function, self.function.build.load(place.raw, align=align, typ=kind))

    def store(self, value: Value, index: Value | int = 0) -> None:
        """Puts a number or vector where ``load`` would find it."""
        place = self._place(value.type, index)
        self.function.build.store(value.raw, place.raw, align=_SIZES[scalar_of(value.type)])

    def prefetch(self, offset: int) -> None:
        """Asks for the memory so many bytes ahead, for reading once."""
        place = self.at(offset)
        number = [ir.Constant(I32, value) for value in (0, 3, 1)]
        name, kinds = "llvm.prefetch.p0", [POINTER, I32, I32, I32]
        declared = self.function.declared(name, ir.FunctionType(ir.VoidType(), kinds))
        self.function.build.call(declared, [place.raw, *number])

    def _place(self, kind: ir.Type, index: Value | int) -> Value:
        return self.at(self.function.whole(index) * _SIZES[scalar_of(kind)])

    def _binary(self, other: Value | float, of_floats: str, of_whole: str) -> Value:
        left, right = self._paired(other)
        name = of_floats if self.is_float else of_whole
        return Value(self.function, getattr(self.function.build, name)(left.raw, right.raw))

    def _compare(self, sign: str, other: Value | float) -> Value:
        left, right = self._paired(other)
        build = self.function.build
        compare = build.fcmp_ordered if self.is_float else build.icmp_signed
        return Value(self.function, compare(sign, left.raw, right.raw))

    def _paired(self, other: Value | float) -> tuple[Value, Value]:
        """Both with the same number of lanes."""
        if isinstance(other, Value) and isinstance(other.type, ir.VectorType):
            return self.function.like(self, other), other
        return self, self.function.like(other, self)


class Variable:
    """A value that changes in loops; LLVM keeps it in a register."""

    def __init__(self, function: Function, first: Value) -> None:
        self._function = function
        self._kind = first.type
        # All at the function's start: in a loop they would take new memory in every round.
        with function.build.goto_entry_block():
            self._place = function.build.alloca(first.type)
        self.set(first)

    def set(self, value: Value) -> None:
        """Changes it."""
        self._function.build.store(value.raw, self._place)

    @property
    def value(self) -> Value:
        """What it is now."""
        return Value(self._function, self._function.build.load(self._place, typ=self._kind))


class Function:
    """One native function under construction; gives nothing back.

    Args:
        module: gets it.
        name: by which it is found.
        parameters: their types.
    """

    def __init__(self, module: ir.Module, name: str, parameters: Sequence[ir.Type]) -> None:
        kind = ir.FunctionType(ir.VoidType(), parameters)
        self._function = ir.Function(module, kind, name)
        self._module = module
        self.build = ir.IRBuilder(self._function.append_basic_block("entry"))
        # Where variables are laid out: what follows must come after it.
        body = self._function.append_basic_block("body")
        self.build.branch(body)
        self.build.position_at_end(body)

    @property
    def parameters(self) -> tuple[Value, ...]:
        """What it is called with."""
        return tuple(Value(self, raw) for raw in self._function.args)

    def finish(self) -> None:
        """Ends it; nothing may follow."""
        self.build.ret_void()

    def whole(self, value: Value | int) -> Value:
        """A whole number of 64 bits."""
        return value if isinstance(value, Value) else Value(self, ir.Constant(I64, value))

    def constant(self, kind: ir.Type, value: float | Sequence[int]) -> Value:
        """A constant; a number for a vector stands in every lane."""
        given: object = list(value) if isinstance(value, Sequence) else value
        if isinstance(kind, ir.VectorType) and not isinstance(given, list):
            given = [given] * kind.count
        return Value(self, ir.Constant(kind, given))

    def like(self, value: Value | float, other: Value) -> Value:
        """``value`` with the type of ``other`` if it is a constant, and with its lanes anyway."""
        if not isinstance(value, Value):
            return self.constant(other.type, value)
        if isinstance(other.type, ir.VectorType) and not isinstance(value.type, ir.VectorType):
            return value.splat(other.type.count)
        return value

    def variable(self, first: Value) -> Variable:
        """A value that changes."""
        return Variable(self, first)

    def declared(self, name: str, kind: ir.FunctionType) -> ir.Function:
        """A function from elsewhere: LLVM's own, or the C library's."""
        known = self._module.globals.get(name)
        return known if known is not None else ir.Function(self._module, kind, name)

    def call(
        self, name: str, gives: ir.Type, *values: Value, fastmath: Sequence[str] = ()
    ) -> Value:
        """What a function from elsewhere gives."""
        declared = self.declared(name, ir.FunctionType(gives, [value.type for value in values]))
        raw = [value.raw for value in values]
        return Value(self, self.build.call(declared, raw, fastmath=fastmath))

    def sum(self, value: Value) -> Value:
        """The sum of a vector's lanes."""
        scalar = scalar_of(value.type)
        if scalar != F32:
            return self.call(f"llvm.vector.reduce.add.{_suffix(value.type)}", scalar, value)
        name = f"llvm.vector.reduce.fadd.{_suffix(value.type)}"
        return self.call(name, scalar, self.constant(F32, -0.0), value, fastmath=_ANY_ORDER)

    def largest(self, value: Value) -> Value:
        """The largest of a vector's lanes, which are floats."""
        return self.call(f"llvm.vector.reduce.fmax.{_suffix(value.type)}", F32, value)

    def maximum(self, left: Value, right: Value | float) -> Value:
        """The larger of two, lane by lane."""
        right = self.like(right, left)
        return self.choose(left > right, left, right)

    def minimum(self, left: Value, right: Value | float) -> Value:
        """The smaller of two, lane by lane."""
        right = self.like(right, left)
        return self.choose(left < right, left, right)

    def magnitude(self, value: Value) -> Value:
        """Without its sign."""
        return self.call(f"llvm.fabs.{_suffix(value.type)}", value.type, value)

    def root(self, value: Value) -> Value:
        """The square root."""
        return self.call(f"llvm.sqrt.{_suffix(value.type)}", value.type, value)

    def choose(self, condition: Value, yes: Value, no: Value | float) -> Value:
        """``yes`` where the condition holds, lane by lane or for all lanes."""
        no = self.like(no, yes)
        return Value(self, self.build.select(condition.raw, yes.raw, no.raw))

    @contextlib.contextmanager
    def loop(self, start: Value | int, stop: Value | int, step: int = 1) -> Iterator[Value]:
        """Counts from ``start`` up to ``stop``, which is not reached."""
        first, last = self.whole(start), self.whole(stop)
        before = self.build.block
        blocks = [self._function.append_basic_block(name) for name in ("head", "round", "after")]
        head, body, after = blocks
        self.build.branch(head)
        self.build.position_at_end(head)
        counter = self.build.phi(I64)
        counter.add_incoming(first.raw, before)
        self.build.cbranch((Value(self, counter) < last).raw, body, after)
        self.build.position_at_end(body)
        yield Value(self, counter)
        counter.add_incoming((Value(self, counter) + step).raw, self.build.block)
        self.build.branch(head)
        self.build.position_at_end(after)

    @contextlib.contextmanager
    def repeat_while(self, condition: Callable[[], Value]) -> Iterator[None]:
        """Goes round as long as the condition holds, which is asked before every round."""
        blocks = [self._function.append_basic_block(name) for name in ("ask", "round", "after")]
        ask, body, after = blocks
        self.build.branch(ask)
        self.build.position_at_end(ask)
        self.build.cbranch(condition().raw, body, after)
        self.build.position_at_end(body)
        yield
        self.build.branch(ask)
        self.build.position_at_end(after)

    @contextlib.contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """Only where a condition holds."""
        with self.build.if_then(condition.raw):
            yield

    def switch(self, number: Value, cases: Sequence[Callable[[], None]]) -> None:
        """Does what the case with this number says."""
        after = self._function.append_basic_block("after")
        switch = self.build.switch(number.raw, after)
        for index, case in enumerate(cases):
            block = self._function.append_basic_block(f"case{index}")
            switch.add_case(ir.Constant(I64, index), block)
            self.build.position_at_end(block)
            case()
            self.build.branch(after)
        self.build.position_at_end(after)

    def atomic_add(self, place: Value, number: int) -> Value:
        """Adds to a 64-bit number in memory; gives what it was before."""
        raw = self.build.atomic_rmw("add", place.raw, ir.Constant(I64, number), "seq_cst")
        return Value(self, raw)

    def atomic_load(self, place: Value) -> Value:
        """A 64-bit number in memory, as other threads have left it."""
        return Value(self, self.build.load_atomic(place.raw, "acquire", 8, typ=I64))

    def atomic_store(self, place: Value, value: Value) -> None:
        """Sets a 64-bit number in memory, after all that was written before."""
        # llvmlite 0.50's plain atomic store doesn't know opaque pointers.
        self.build.atomic_rmw("xchg", place.raw, value.raw, "seq_cst")


def _suffix(kind: ir.Type) -> str:
    """How LLVM names a type in the names of its functions."""
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{_suffix(kind.element)}"
    return {F32: "f32", F16: "f16"}.get(kind) or f"i{kind.width}"
