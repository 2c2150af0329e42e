#!/usr/bin/env python3
"""Example of a blur module in Python: finds faces with OpenCV's Haar cascades and blurs them.

Use it:      "blur_module_path": "./examples/example_blur_module.py"   in configs/blur_processor_config.json
Try it:      python example_blur_module.py [PICTURE]

It shows both interfaces that the blur processor knows; a module needs only one of them:
  class HeadBlurrer with process_frame(frame, camera_index=0)   preferred: its state lives as long as the worker
  function apply_blur(frame, thread_id=0)
A frame is a numpy array, height x width x 3, BGR, 8 bit, writable. Change it in place or make a new one of the same
shape, and return it. An exception fails the attempt: the segment is held back, never published as it is.

Haar cascades see frontal faces and not much else. This file is a starting point for your own detector, not a way to
protect people: the built-in "head-blur" plugin is far better and faster.
"""

import sys

import cv2
import numpy as np

NEEDS = "this example needs OpenCV 4 with its Haar cascades: pip install 'opencv-python-headless<5'"


def load_cascade(name):
    """One of the cascades that OpenCV 4 ships. OpenCV 5 has none any more, and no class to run them."""
    if not hasattr(cv2, "CascadeClassifier") or not hasattr(cv2, "data"):
        raise RuntimeError(f"OpenCV {cv2.__version__} has no Haar cascades; {NEEDS}")
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + name)
    if cascade.empty():
        raise RuntimeError(f"OpenCV {cv2.__version__} does not carry {name}; {NEEDS}")
    return cascade


class HeadBlurrer:
    """Finds faces from the front and the side, remembers them for a few frames per camera, and blurs them."""

    def __init__(self, num_camera=1, blur_strength=15, remember_frames=5):
        self.frontal = load_cascade("haarcascade_frontalface_default.xml")
        self.profile = load_cascade("haarcascade_profileface.xml")
        self.blur_strength = blur_strength
        self.remember_frames = remember_frames
        # camera -> list of (age in frames, box)
        self.recent = {camera: [] for camera in range(num_camera)}

    def find(self, frame):
        """Boxes (x, y, w, h) in pixels of `frame`. Searched at half size: a quarter of the work."""
        small = cv2.cvtColor(cv2.resize(frame, None, fx=0.5, fy=0.5), cv2.COLOR_BGR2GRAY)
        found = list(self.frontal.detectMultiScale(small, 1.1, 5, minSize=(15, 15)))
        found += list(self.profile.detectMultiScale(small, 1.1, 5, minSize=(15, 15)))
        # The profile cascade knows one side only; the mirror image shows it the other.
        for x, y, w, h in self.profile.detectMultiScale(cv2.flip(small, 1), 1.1, 5, minSize=(15, 15)):
            found.append((small.shape[1] - x - w, y, w, h))
        return [tuple(int(2 * value) for value in box) for box in found]

    def process_frame(self, frame, camera_index=0):
        boxes = self.find(frame)
        kept = [(age + 1, box) for age, box in self.recent.get(camera_index, []) if age < self.remember_frames]
        self.recent[camera_index] = [(0, box) for box in boxes] + kept
        for _, box in self.recent[camera_index]:
            blur_box(frame, box, self.blur_strength)
        return frame


def blur_box(frame, box, strength):
    """Blurs one box with a margin, in place. The kernel grows with the box: a fixed one hides nothing on a near face."""
    x, y, w, h = box
    left, top = max(0, x - w // 4), max(0, y - h // 3)
    right, bottom = min(frame.shape[1], x + w + w // 4), min(frame.shape[0], y + h + h // 4)
    if right <= left or bottom <= top:
        return
    region = frame[top:bottom, left:right]
    kernel = max(strength, (right - left) // 2, (bottom - top) // 2) | 1
    frame[top:bottom, left:right] = cv2.GaussianBlur(region, (kernel, kernel), 0)


_blurrers = {}


def apply_blur(frame, thread_id=0):
    """The function interface, on top of the class."""
    if thread_id not in _blurrers:
        _blurrers[thread_id] = HeadBlurrer()
    return _blurrers[thread_id].process_frame(frame)


def self_test(picture=None):
    """Runs both interfaces once and says what they did."""
    if picture:
        frame = cv2.imread(picture)
        if frame is None:
            raise SystemExit(f"cannot read the picture {picture}")
    else:
        frame = np.random.default_rng(1).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    blurrer = HeadBlurrer(num_camera=2)
    boxes = blurrer.find(frame)
    for name, result in (
        ("HeadBlurrer.process_frame", blurrer.process_frame(frame.copy(), 1)),
        ("apply_blur", apply_blur(frame.copy())),
    ):
        if result.shape != frame.shape or result.dtype != frame.dtype:
            raise SystemExit(f"{name}: wrong result {result.shape} {result.dtype}")
        changed = int((result != frame).any(axis=2).sum())
        print(f"{name}: ok, {changed} of {frame.shape[0] * frame.shape[1]} pixels changed")
    print(f"{len(boxes)} face(s) found by OpenCV {cv2.__version__}")
    if picture:
        cv2.imwrite("blurred.png", blurrer.process_frame(frame))
        print("written: blurred.png")


if __name__ == "__main__":
    try:
        self_test(*sys.argv[1:2])
    except RuntimeError as error:
        raise SystemExit(str(error)) from None
