"""Several pixels' keys at once: the innermost step of drawing, in LLVM's vectors.

Numba's loops become vector instructions only behind checks that no array overlaps another, and
those take longer than a disc's few pixels in a row. So this one step is spelled out. (Kernels that
numba keeps on disk hold it as it was until kernels.py changes, too.)
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def lower(lanes: int) -> Callable:
    """`lower_keys(keys, at, bits, first, who)` for kernels: each of keys[at:at + lanes], int64, is
    lowered to bits[first:...] << 32 | who, where that is less. `bits` are int32 and not negative;
    nothing looks whether the arrays are long enough."""
    keys_type, bits_type = (ir.VectorType(ir.IntType(width), lanes) for width in (64, 32))
    places = ir.VectorType(ir.IntType(32), lanes)

    @intrinsic
    def lower_keys(typing, keys, at, bits, first, who):
        signature = types.void(keys, types.int64, bits, types.int64, types.int64)

        def build(context, builder, signature, arguments):
            def start(array: int, vector: ir.VectorType) -> ir.Value:
                held = context.make_array(signature.args[array])(context, builder, arguments[array])
                return builder.bitcast(
                    builder.gep(held.data, [arguments[array + 1]]), vector.as_pointer()
                )

            none, zero = ir.Constant(keys_type, ir.Undefined), ir.Constant(ir.IntType(32), 0)
            name = builder.insert_element(none, arguments[4], zero)
            name = builder.shuffle_vector(name, none, ir.Constant(places, [0] * lanes))
            depth = builder.zext(builder.load(start(2, bits_type), align=4), keys_type)
            key = builder.or_(builder.shl(depth, ir.Constant(keys_type, [32] * lanes)), name)
            place = start(0, keys_type)
            before = builder.load(place, align=8)
            less = builder.icmp_signed("<", key, before)
            builder.store(builder.select(less, key, before), place, align=8)
            return context.get_dummy_value()

        return signature, build

    return lower_keys
