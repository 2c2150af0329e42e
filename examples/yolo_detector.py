#!/usr/bin/env python3
"""Example of a detector in Python: a YOLO model of your own finds heads, everything else is done by the blur processor.

Use it:      "blur_module_path": "./examples/yolo_detector.py",
             "plugin": { "python_executable": "/home/me/venv/bin/python" }
Try it:      python yolo_detector.py PICTURE

A module with a function `detect` only says where heads are. The blur processor follows them through the segment in both
directions, masks them, and copies what needs no mask, so it is faster and safer than a module that blurs by itself:
  detect(frame, camera_index) -> [(x, y, w, h, score), ...]     pixels of the frame it was given, score 0 to 1
  DETECT_SIZE = (width, height)                                 optional: the largest picture it wants to be given
Needs the package ultralytics, which is imported only when the first frame comes.
"""

import os
import sys

# The model to use, the classes of it that are to be masked (in lower case), and how sure it must be.
MODEL = os.environ.get("HEAD_MODEL", "yolov8n-head.pt")
CLASSES = {"head", "face", "person"}
SCORE = 0.25

DETECT_SIZE = (640, 384)

_model = None


def load():
    """The model, loaded once per worker."""
    global _model
    if _model is None:
        try:
            from ultralytics import YOLO
        except ImportError as error:
            raise RuntimeError(
                f"the package ultralytics is missing in {sys.executable}: install it there, or name another interpreter "
                'with "plugin": {"python_executable": "..."}'
            ) from error
        model = YOLO(MODEL)
        names = sorted(set(model.names.values()))
        if CLASSES.isdisjoint(name.lower() for name in names):
            # It would find nobody, and everything would be published as it is.
            raise RuntimeError(
                f"{MODEL} knows none of {', '.join(sorted(CLASSES))}; its classes are {', '.join(names)}: put those that are to be "
                "masked into CLASSES, in lower case"
            )
        _model = model
    return _model


def head_of(label, x, y, w, h):
    """The head's box: a person's is the top of the body."""
    if label != "person":
        return x, y, w, h
    side = min(w, h / 6.0 * 1.3)
    return x + (w - side) / 2, y - side * 0.1, side, side * 1.2


def detect(frame, camera_index=0):
    model = load()
    result = model.predict(frame, conf=SCORE, verbose=False)[0]
    regions = []
    for box in result.boxes:
        label = result.names[int(box.cls)].lower()
        if label in CLASSES:
            left, top, right, bottom = (float(value) for value in box.xyxy[0])
            regions.append((*head_of(label, left, top, right - left, bottom - top), float(box.conf)))
    return regions


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    import cv2

    picture = cv2.imread(sys.argv[1])
    if picture is None:
        raise SystemExit(f"cannot read the picture {sys.argv[1]}")
    for region in detect(picture):
        print("x %.0f  y %.0f  w %.0f  h %.0f  score %.2f" % region)
