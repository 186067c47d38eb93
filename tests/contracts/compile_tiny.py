"""Compile the two tiny programs of the tests: `python compile_tiny.py FOLDER`, on its own."""

import sys
from pathlib import Path

import tvm
from tvm import relax, te, tirx
from tvm.ir import IRModule

TARGET = {"kind": "llvm"}


def plain() -> IRModule:
    """y = relu(x w): two kernels, `matmul` and `relu`."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((1, 64), "float32"))
    w = relax.Var("w", relax.TensorType((64, 10), "float32"))
    with builder.function("main", [x, w]):
        with builder.dataflow():
            product = builder.emit(relax.op.matmul(x, w))
            out = builder.emit_output(relax.op.nn.relu(product))
        builder.emit_func_output(out)
    return builder.get()


def quantized() -> IRModule:
    """codes = quantize(x, q); y = float(codes w): one checked layer that reveals its sums."""

    def quantize(x, q):
        top = tirx.const(15.0, "float32")
        return te.compute(
            x.shape,
            lambda i, j: te.max(
                te.min(tirx.nearbyint(x[i, j] * q[0]) + q[1], top), tirx.const(0.0, "float32")
            ).astype("uint8"),
            name="codes",
        )

    def accumulate(codes, w, reveal):
        k = te.reduce_axis((0, w.shape[0]), "k")
        acc = te.compute(
            (codes.shape[0], w.shape[1]),
            lambda i, j: te.sum(codes[i, k].astype("int32") * w[k, j].astype("int32"), axis=k),
            name="acc",
        )

        def result(i, j):
            bits = tirx.reinterpret("float32", acc[i, j])
            return tirx.Select(reveal[0] != 0, bits, acc[i, j].astype("float32"))

        return te.compute(acc.shape, result, name="y")

    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((1, 64), "float32"))
    q = relax.Var("q", relax.TensorType((2,), "float32"))
    w = relax.Var("w", relax.TensorType((64, 10), "int8"))
    reveal = relax.Var("reveal", relax.TensorType((1,), "int32"))
    with builder.function("main", [x, q, w, reveal]):
        with builder.dataflow():
            codes = builder.emit_te(quantize, x, q, primfunc_name_hint="quantize_layer")
            y = builder.emit_te(accumulate, codes, w, reveal, primfunc_name_hint="accumulate_layer")
            out = builder.emit_output(y)
        builder.emit_func_output(out)
    return builder.get()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    target = tvm.target.Target(TARGET)
    for name, module in (("plain", plain()), ("quantized", quantized())):
        tvm.compile(module, target=target).export_library(str(folder / f"{name}.so"))
