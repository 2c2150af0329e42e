"""As much of ONNX's file format (protobuf) as two conversions need: walking, changing and writing messages.

Field numbers are those of onnx.proto. A message is bytes; a field is (number, wire type, value, its own bytes).
"""

import struct
from array import array

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# TensorProto.DataType
FLOAT, UINT8, INT8 = 1, 2, 3
ARRAYS = {FLOAT: "f", UINT8: "B", INT8: "b"}


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def fields(message: bytes):
    """Yields (number, wire type, value, raw bytes) of each field."""
    at = 0
    while at < len(message):
        start = at
        tag, at = read_varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, at = read_varint(message, at)
        elif kind == BYTES:
            length, at = read_varint(message, at)
            value, at = message[at : at + length], at + length
        else:
            width = {FIXED64: 8, FIXED32: 4}[kind]
            value, at = message[at : at + width], at + width
        yield number, kind, value, message[start:at]


def change(message: bytes, number: int, edit) -> bytes:
    """The message with `edit` applied to every sub-message `number`."""
    return b"".join(
        sub(number, edit(value)) if (found, kind) == (number, BYTES) else raw
        for found, kind, value, raw in fields(message)
    )


def sub(number: int, content: bytes) -> bytes:
    return varint(number << 3 | BYTES) + varint(len(content)) + content


def integer(number: int, value: int) -> bytes:
    return varint(number << 3 | VARINT) + varint(value)


def text(number: int, value: str) -> bytes:
    return sub(number, value.encode())


def shape(dimensions) -> bytes:
    """TensorShapeProto; a dimension given as text is free and has that name."""
    dims = (integer(1, d) if isinstance(d, int) else text(2, d) for d in dimensions)
    return b"".join(sub(1, dim) for dim in dims)


def value_info(name: str, dimensions) -> bytes:
    tensor_type = integer(1, FLOAT) + sub(2, shape(dimensions))
    return text(1, name) + sub(2, sub(1, tensor_type))


def tensor(name: str, dimensions, values, kind: int = FLOAT) -> bytes:
    dims = b"".join(integer(1, d) for d in dimensions)
    return dims + integer(2, kind) + text(8, name) + sub(9, array(ARRAYS[kind], values).tobytes())


def attribute(name: str, value) -> bytes:
    if isinstance(value, float):
        body = varint(2 << 3 | FIXED32) + struct.pack("<f", value) + integer(20, 1)
    elif isinstance(value, int):
        body = integer(3, value) + integer(20, 2)
    elif isinstance(value, str):
        body = text(4, value) + integer(20, 3)
    else:
        body = b"".join(integer(8, item) for item in value) + integer(20, 7)
    return text(1, name) + body


def node(operation: str, inputs, output: str, **attributes) -> bytes:
    return (
        b"".join(text(1, name) for name in inputs)
        + text(2, output)
        + text(3, output)
        + text(4, operation)
        + b"".join(sub(5, attribute(name, value)) for name, value in attributes.items())
    )


def model(name: str, nodes, tensors, inputs, outputs, opset: int) -> bytes:
    graph = (
        b"".join(sub(1, item) for item in nodes)
        + text(2, name)
        + b"".join(sub(5, item) for item in tensors)
        + b"".join(sub(11, item) for item in inputs)
        + b"".join(sub(12, item) for item in outputs)
    )
    return integer(1, 8) + text(2, "scripts/model") + sub(7, graph) + sub(8, text(1, "") + integer(2, opset))
