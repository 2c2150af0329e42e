"""NanoDet-g from TensorFlow.js (graph as JSON, weights as 16-bit floats) to ONNX with free height and width.

The graph was made for 416 x 416 and ends in code that sorts boxes out for that size. Only the network is taken: the
outputs are its three raw heads at strides 8, 16 and 32, each 80 class logits and 4 x 11 distance logits.
Transpositions between layouts fall away, since ONNX keeps channels first throughout; biases go into their convolution.
"""

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path

import onnx_wire as wire

SIDE = 416
CHANNELS = 80 + 4 * 11
HEADS = {"Identity": 8, "Identity_1": 16, "Identity_2": 32}
FORMATS = {"float16": "e", "float32": "f", "int32": "i"}
NO_PADDING = (0, 0, 0, 0)


@dataclass
class Value:
    """A tensor between two operations: its ONNX name, its side at 416 x 416, padding that is still to be applied
    (top, left, bottom, right), and the convolution it comes from."""

    name: str
    side: int
    padding: tuple = NO_PADDING
    origin: "Convolution | None" = None


@dataclass
class Convolution:
    source: str
    weights: str
    output: str
    kernel: tuple
    stride: int
    padding: tuple
    bias: list = field(default_factory=list)

    def encode(self) -> bytes:
        return wire.node(
            "Conv",
            [self.source, self.weights, *self.bias],
            self.output,
            kernel_shape=self.kernel,
            strides=(self.stride, self.stride),
            pads=self.padding,
        )


def convert(graph_file: Path, weights_file: Path, target: Path) -> None:
    description = json.loads(graph_file.read_text())
    target.write_bytes(Converter(description, read_weights(description, weights_file.read_bytes())).run())


def read_weights(description: dict, raw: bytes) -> dict:
    """Name -> (shape, values)."""
    weights, at = {}, 0
    for entry in description["weightsManifest"][0]["weights"]:
        count = 1
        for side in entry["shape"]:
            count *= side
        stored = entry.get("quantization", entry)["dtype"]
        layout = f"<{count}{FORMATS[stored]}"
        weights[entry["name"]] = (entry["shape"], struct.unpack_from(layout, raw, at))
        at += struct.calcsize(layout)
    if at != len(raw):
        raise ValueError(f"weights: {len(raw)} bytes, {at} described")
    return weights


class Converter:
    def __init__(self, description: dict, weights: dict):
        self.nodes = {node["name"]: node for node in description["modelTopology"]["node"]}
        self.weights = weights
        self.done: dict[str, Value] = {}
        self.operations = []  # encoded nodes, and convolutions that may yet get a bias
        self.tensors = [wire.tensor("up", (4,), (1, 1, 2, 2)), wire.tensor("down", (4,), (1, 1, 0.5, 0.5))]
        self.count = 0

    def run(self) -> bytes:
        outputs = []
        for tail, stride in HEADS.items():
            head = self.value(self.network_output(tail))
            self.operations.append(wire.node("Identity", [head.name], f"stride{stride}"))
            outputs.append(wire.value_info(f"stride{stride}", (1, CHANNELS, f"rows{stride}", f"columns{stride}")))
        nodes = [item.encode() if isinstance(item, Convolution) else item for item in self.operations]
        inputs = [wire.value_info("picture", (1, 3, "height", "width"))]
        return wire.model("nanodet-g", nodes, self.tensors, inputs, outputs, opset=13)

    def network_output(self, tail: str) -> str:
        """What is split into classes and distances, walking back from an output of the whole graph."""
        while self.nodes[tail]["op"] != "SplitV":
            tail = self.nodes[tail]["input"][0].split(":")[0]
        return self.nodes[tail]["input"][0]

    def value(self, name: str) -> Value:
        if name not in self.done:
            node = self.nodes[name]
            self.done[name] = getattr(self, "op_" + node["op"].lower())(node)
        return self.done[name]

    def emit(self, operation: str, inputs, side: int, **attributes) -> Value:
        value = Value(self.new_name(), side)
        self.operations.append(wire.node(operation, inputs, value.name, **attributes))
        return value

    def new_name(self) -> str:
        self.count += 1
        return f"t{self.count}"

    # One method per TensorFlow operation.

    def op_placeholder(self, _) -> Value:
        return Value("picture", SIDE)

    def op_identity(self, node) -> Value:
        return self.value(node["input"][0])

    op_transpose = op_identity

    def op_pad(self, node) -> Value:
        source = self.value(node["input"][0])
        pairs = self.weights[node["input"][1]][1]
        # Four (before, after) pairs in either layout; the two that are not zero are height and width.
        (top, bottom), (left, right) = [pair for pair in zip(pairs[::2], pairs[1::2]) if any(pair)]
        return Value(source.name, source.side, (top, left, bottom, right))

    op_padv2 = op_pad

    def op_maxpool(self, node) -> Value:
        source = self.value(node["input"][0])
        return self.emit(
            "MaxPool", [source.name], source.side // 2, kernel_shape=(3, 3), strides=(2, 2), pads=source.padding
        )

    def op_conv2d(self, node) -> Value:
        source = self.value(node["input"][0])
        (rows, columns, into, out), values = self.weights[node["input"][1]]
        stride = int(node["attr"]["strides"]["list"]["i"][1])
        # From [row, column, in, out] to [out, in, row, column].
        reordered = [
            values[((row * columns + column) * into + i) * out + o]
            for o in range(out)
            for i in range(into)
            for row in range(rows)
            for column in range(columns)
        ]
        weights = node["name"] + "/weights"
        self.tensors.append(wire.tensor(weights, (out, into, rows, columns), reordered))
        convolution = Convolution(source.name, weights, self.new_name(), (rows, columns), stride, source.padding)
        self.operations.append(convolution)
        return Value(convolution.output, source.side // stride, origin=convolution)

    def op_add(self, node) -> Value:
        left = self.value(node["input"][0])
        if node["input"][1] not in self.weights:
            return self.emit("Add", [left.name, self.value(node["input"][1]).name], left.side)
        if left.origin is None or left.origin.bias:
            raise ValueError(f"{node['name']}: a bias without a convolution of its own")
        bias = node["name"] + "/bias"
        values = self.weights[node["input"][1]][1]
        self.tensors.append(wire.tensor(bias, (len(values),), values))
        left.origin.bias.append(bias)
        return left

    op_addv2 = op_add

    def op_leakyrelu(self, node) -> Value:
        source = self.value(node["input"][0])
        return self.emit("LeakyRelu", [source.name], source.side, alpha=float(node["attr"]["alpha"]["f"]))

    def op_concatv2(self, node) -> Value:
        sources = [self.value(name) for name in node["input"][:-1]]
        return self.emit("Concat", [source.name for source in sources], sources[0].side, axis=1)

    def op_resizebilinear(self, node) -> Value:
        source = self.value(node["input"][0])
        side = self.weights[node["input"][1]][1][0]
        scale = {source.side * 2: "up", source.side // 2: "down"}[side]
        return self.emit(
            "Resize",
            [source.name, "", scale],
            side,
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        )
