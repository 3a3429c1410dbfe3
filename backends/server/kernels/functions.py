"""Functions of vectors that no CPU has an instruction for.

Errors are those of float32 arithmetic: a few units in the last place.
"""

from __future__ import annotations

import math

from backends.server.kernels.emit import F32, I32, Function, Value, scalar_of, vector

# Beyond these exp leaves the range of float32.
_LEAST, _MOST = -87.0, 88.0
# ln 2 in two parts, so that multiples of the first are exact (Cody and Waite).
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
_MANTISSA_BITS, _EXPONENT_BIAS = 23, 127
# Adding it leaves a float no bits for a fraction, so that what is added to it is rounded.
_ROUNDER = 1.5 * 2.0**_MANTISSA_BITS


def nearest(function: Function, values: Value) -> Value:
    """The nearest whole numbers of floats below 2**22, as whole numbers; ties to even."""
    rounder = function.constant(values.type, _ROUNDER)
    whole = vector(I32, values.type.count)
    return (values + rounder).bits_as(whole) - rounder.bits_as(whole)


def exp(function: Function, values: Value) -> Value:
    """e to the power of floats; what is below -87 counts as -87."""
    values = function.maximum(function.minimum(values, _MOST), _LEAST)
    twos = nearest(function, values * (1 / math.log(2)))
    count = twos.to(F32)
    rest = count.times(-_LN2_LOW, count.times(-_LN2_HIGH, values))
    # Taylor's series: the rest is at most 0.35.
    power = function.constant(values.type, 1 / math.factorial(7))
    for number in range(6, -1, -1):
        power = power.times(rest, 1 / math.factorial(number))
    exponent = (twos + _EXPONENT_BIAS) << _MANTISSA_BITS
    return power * exponent.bits_as(values.type)


def sigmoid(function: Function, values: Value) -> Value:
    """1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + exp(function, 0.0 - values))


def silu(function: Function, values: Value) -> Value:
    """x times its sigmoid."""
    return values * sigmoid(function, values)


def gelu(function: Function, values: Value) -> Value:
    """The form with tanh: x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x**3)))."""
    assert scalar_of(values.type) == F32
    inner = values * (values * values).times(0.044715, 1.0)
    # (1 + tanh(y)) / 2 is the sigmoid of 2 y.
    return values * sigmoid(function, inner * (2 * math.sqrt(2 / math.pi)))
