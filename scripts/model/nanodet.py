"""NanoDet-g from TensorFlow.js (graph as JSON, weights as 16-bit floats) to ONNX with free height and width.

The graph was made for 416 x 416 and ends in code that sorts boxes out for that size. Only the network is taken: the
outputs are its three raw heads at strides 8, 16 and 32, each 80 class logits and 4 x 11 distance logits.
Transpositions between layouts fall away, since ONNX keeps channels first throughout; biases go into their convolution.

Where it is known which values a tensor takes (nanodet_ranges.json, made by calibrate.py) it is quantised to 8 bits, and so
are all weights: 3 times as fast as 32-bit floats on processors with VNNI, 1.8 times on those without.
"""

import json
import struct
from dataclasses import dataclass
from pathlib import Path

import onnx_wire as wire

SIDE = 416
CHANNELS = 80 + 4 * 11
HEADS = {"Identity": 8, "Identity_1": 16, "Identity_2": 32}
FORMATS = {"float16": "e", "float32": "f", "int32": "i"}
NO_PADDING = (0, 0, 0, 0)
# The largest weight of an output channel becomes this. Processors without VNNI add two products of a value and a weight in
# 16 bits; a picture's values are large enough for that to overflow, those of the layers behind it hardly ever.
WEIGHT_LIMIT, PICTURE_WEIGHT_LIMIT = 127, 63


@dataclass
class Operation:
    kind: str
    inputs: list
    output: str
    attributes: dict


@dataclass
class Value:
    """A tensor between two operations: its ONNX name, its side at 416 x 416, padding that is still to be applied
    (top, left, bottom, right), and the convolution it comes from."""

    name: str
    side: int
    padding: tuple = NO_PADDING
    origin: "Operation | None" = None


def convert(graph_file: Path, weights_file: Path, target: Path, ranges: dict) -> None:
    """`ranges`: tensor -> lowest and highest value; without any the network stays in floats."""
    description = json.loads(graph_file.read_text())
    target.write_bytes(Converter(description, read_weights(description, weights_file.read_bytes()), ranges).run())


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
    def __init__(self, description: dict, weights: dict, ranges: dict):
        self.ranges = ranges
        self.nodes = {node["name"]: node for node in description["modelTopology"]["node"]}
        self.weights = weights
        self.done: dict[str, Value] = {}
        self.operations = []  # convolutions among them may yet get a bias
        self.tensors = [wire.tensor("up", (4,), (1, 1, 2, 2)), wire.tensor("down", (4,), (1, 1, 0.5, 0.5))]
        self.count = 0

    def run(self) -> bytes:
        outputs = []
        for tail, stride in HEADS.items():
            head = self.value(self.network_output(tail))
            self.operations.append(Operation("Identity", [head.name], f"stride{stride}", {}))
            outputs.append(wire.value_info(f"stride{stride}", (1, CHANNELS, f"rows{stride}", f"columns{stride}")))
        nodes = self.quantised("picture")
        for operation in self.operations:
            inputs = [self.final_name(name) for name in operation.inputs]
            nodes.append(wire.node(operation.kind, inputs, operation.output, **operation.attributes))
            nodes += self.quantised(operation.output)
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
        self.operations.append(Operation(operation, inputs, value.name, attributes))
        return value

    def new_name(self) -> str:
        self.count += 1
        return f"t{self.count}"

    def final_name(self, name: str) -> str:
        return f"{name}/dequantised" if name in self.ranges else name

    def quantised(self, name: str) -> list:
        """The nodes that take a tensor to 8 bits and back; an engine for integers merges them into its neighbours."""
        if name not in self.ranges:
            return []
        low, high = self.ranges[name]
        scale, zero = f"{name}/scale", f"{name}/zero"
        step = (high - low) / 255
        self.tensors += [wire.tensor(scale, (), [step]), wire.tensor(zero, (), [round(-low / step)], wire.UINT8)]
        return [
            wire.node("QuantizeLinear", [name, scale, zero], f"{name}/quantised"),
            wire.node("DequantizeLinear", [f"{name}/quantised", scale, zero], self.final_name(name)),
        ]

    def weights_tensor(self, name: str, shape: tuple, values: list, source: str) -> str:
        """Adds a convolution's weights, 8 bits with a scale for each output channel where tensors are quantised."""
        if not self.ranges:
            self.tensors.append(wire.tensor(name, shape, values))
            return name
        limit = PICTURE_WEIGHT_LIMIT if source == "picture" else WEIGHT_LIMIT
        size = len(values) // shape[0]
        channels = [values[at : at + size] for at in range(0, len(values), size)]
        steps = [max(max(map(abs, channel)), 1e-9) / limit for channel in channels]
        whole = [round(value / step) for channel, step in zip(channels, steps) for value in channel]
        self.tensors += [
            wire.tensor(f"{name}/whole", shape, whole, wire.INT8),
            wire.tensor(f"{name}/scale", shape[:1], steps),
            wire.tensor(f"{name}/zero", shape[:1], [0] * shape[0], wire.INT8),
        ]
        inputs = [f"{name}/whole", f"{name}/scale", f"{name}/zero"]
        self.operations.append(Operation("DequantizeLinear", inputs, name, {"axis": 0}))
        return name

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
        weights = self.weights_tensor(node["name"] + "/weights", (out, into, rows, columns), reordered, source.name)
        sizes = {"kernel_shape": (rows, columns), "strides": (stride, stride), "pads": source.padding}
        convolution = Operation("Conv", [source.name, weights], self.new_name(), sizes)
        self.operations.append(convolution)
        return Value(convolution.output, source.side // stride, origin=convolution)

    def op_add(self, node) -> Value:
        left = self.value(node["input"][0])
        if node["input"][1] not in self.weights:
            return self.emit("Add", [left.name, self.value(node["input"][1]).name], left.side)
        if left.origin is None or len(left.origin.inputs) > 2:
            raise ValueError(f"{node['name']}: a bias without a convolution of its own")
        bias = node["name"] + "/bias"
        values = self.weights[node["input"][1]][1]
        self.tensors.append(wire.tensor(bias, (len(values),), values))
        left.origin.inputs.append(bias)
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
