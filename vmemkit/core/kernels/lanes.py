"""Lanes: the keys of several pixels at once, which is the innermost step of drawing.

Numba turns a loop into vector instructions, but first checks at run time that no array overlaps
another. A disc has so few pixels in a row that this check takes longer than the loop, so this one
step is written in LLVM's own vector instructions. Numba's cache on disk does not notice a change
here: change pixels.py, too, or delete the cache.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def lower(lanes: int) -> Callable:
    """A function `lower_keys(keys, at, bits, first, surfel)` for kernels. It sets each of the int64
    keys[at : at + lanes] to bits[first : first + lanes] << 32 | surfel where that is less.

    `bits` are int32 and not negative. Bounds are not checked: both arrays must be long enough.
    """
    keys_type, bits_type = (ir.VectorType(ir.IntType(width), lanes) for width in (64, 32))
    indices_type = ir.VectorType(ir.IntType(32), lanes)

    @intrinsic
    def lower_keys(typing, keys, at, bits, first, surfel):
        signature = types.void(keys, types.int64, bits, types.int64, types.int64)

        def build(context, builder, signature, arguments):
            def pointer_to(argument: int, vector: ir.VectorType) -> ir.Value:
                """To the element of an array argument that the next argument names."""
                make = context.make_array(signature.args[argument])
                array = make(context, builder, arguments[argument])
                element = builder.gep(array.data, [arguments[argument + 1]])
                return builder.bitcast(element, vector.as_pointer())

            # 1. The surfel's number in every lane.
            empty, zero = ir.Constant(keys_type, ir.Undefined), ir.Constant(ir.IntType(32), 0)
            surfels = builder.insert_element(empty, arguments[4], zero)
            surfels = builder.shuffle_vector(surfels, empty, ir.Constant(indices_type, [0] * lanes))
            # 2. The new keys: depth in the upper half, surfel in the lower.
            depth = builder.zext(builder.load(pointer_to(2, bits_type), align=4), keys_type)
            new = builder.or_(builder.shl(depth, ir.Constant(keys_type, [32] * lanes)), surfels)
            # 3. The lesser of the new and the old keys.
            target = pointer_to(0, keys_type)
            old = builder.load(target, align=8)
            less = builder.icmp_signed("<", new, old)
            builder.store(builder.select(less, new, old), target, align=8)
            return context.get_dummy_value()

        return signature, build

    return lower_keys
