"""Runs one blur module in this interpreter for the bridge plugin.

The host starts the interpreter with a Unix stream socket as standard input and shared memory as standard output, and
sends this text first. Over the socket come JSON lines; each gets one JSON line back. Frames lie in the shared memory as
BGR, 8 bit, height x width x 3, without padding; the module works on them where they lie. Whatever the module prints goes
to standard error, so to the worker's log.

Requests
  {"op": "load", "module": PATH, "cameras": N}
      -> {"ok": true, "kind": "filter"|"detector", "interface": TEXT, "size": [w, h]|null, "resets": BOOL}
  {"op": "frame", "offset": BYTES, "copy": BOOL, "width": W, "height": H, "camera": I, "index": K}
      -> filter:   {"ok": true}
         detector: {"ok": true, "regions": [[x, y, w, h, score], ...]}
  {"op": "reset", "camera": I}, where "resets" was true
      -> {"ok": true}
Each request carries a "number", which its answer repeats. An answer's "held" lists where in the memory frames lie that the
module still holds ([[offset, bytes], ...]): modules that compare a frame with the one before keep it, so the next one must
lie elsewhere. A module that keeps many is given copies.
Any answer may be {"ok": false, "error": TEXT, "traceback": TEXT} instead; nothing is skipped or passed through here.
"""

import atexit
import importlib.util
import inspect
import json
import mmap
import os
import re
import socket
import sys
import traceback
import weakref


# The one process that answers.
INTERPRETER = os.getpid()


class Refused(Exception):
    """The module broke a rule of the interface; the message says which and what to do."""


# What a second parameter is called that numbers the camera, its stream or the thread that works on it: whole names only,
# since a number that is given to something else (frame_idx, camera_matrix, use_threads) may switch a module off. A mere
# underscore is nothing to its module.
_CAMERA = "cam|camera|stream|channel|chan|ch|thread"
NUMBERS = re.compile(
    rf"_*(({_CAMERA})|({_CAMERA}|source|src|worker|process)_?(id|idx|index|no|nr|num|number)|(id|idx|index)_?({_CAMERA})"
    "|id|idx|index|i|tid|pid)?",
    re.IGNORECASE,
)

# What a constructor's parameter is called that tells how many cameras there are.
COUNTS = re.compile(
    "((n|nb|no|num|number|max|total)_?)?(of_?)?(cam|camera)s?(_?(count|num|number|total))?", re.IGNORECASE
)


def takes(function, name):
    """How a callable takes the parameter `name`: "keyword", "position" (as its second parameter) or None (not at all)."""
    signature = signature_of(function)
    if signature is None:
        return "position"
    how = way(list(signature.parameters.values()), name)
    given = {"keyword": ([0], {name: 0}), "position": ([0, 0], {}), None: ([0], {})}[how]
    # A decorator may add what the function that it wraps needs.
    problem = unbound(signature, *given) and unbound(signature_of(function, follow_wrapped=False), *given)
    if problem:
        raise Refused(
            f"{getattr(function, '__qualname__', function)}{signature}: {problem}; all that the host gives is the frame and the "
            f"camera's number, so give other parameters defaults, and call the one for the number {name}"
        )
    return how


def signature_of(function, **options):
    """Its signature; None where it has none, as compiled functions."""
    try:
        return inspect.signature(function, **options)
    except (TypeError, ValueError):
        return None


def unbound(signature, positional, named):
    """What keeps a call with these arguments from fitting the signature; None when it fits, or nobody knows."""
    try:
        if signature is not None:
            signature.bind(*positional, **named)
    except TypeError as error:
        return str(error)
    return None


def way(parameters, name):
    """As `takes`, whatever else there must be."""
    if any(p.name == name and p.kind is not p.POSITIONAL_ONLY for p in parameters):
        return "keyword"
    by_position = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(by_position) >= 2:
        return "position" if is_number(by_position[1]) else None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return "position"
    return "keyword" if any(p.kind is p.VAR_KEYWORD for p in parameters) else None


def is_number(parameter):
    """Whether a second parameter is for a camera's number: by its name, and by its default where it has one."""
    # A switch (stream=True) or a name (camera="front") is none.
    default = parameter.default
    could_be = default is parameter.empty or default is None or type(default) is int
    return could_be and NUMBERS.fullmatch(parameter.name) is not None


def caller(function, name):
    """A callable of (frame, number) for a module's function, whichever way it takes the number."""
    how = takes(function, name)
    if how == "keyword":
        return lambda frame, number: function(frame, **{name: number})
    if how == "position":
        return lambda frame, number: function(frame, number)
    return lambda frame, _number: function(frame)


def resetter(owner):
    """The module's own `reset(camera_index)`; None without one. What takes no camera's number is meant for something else."""
    reset = getattr(owner, "reset", None)
    signature = signature_of(reset) if callable(reset) else None
    first = next(iter(signature.parameters.values()), None) if signature else None
    if first is None or first.kind not in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD) or not is_number(first):
        return None
    return reset if unbound(signature, [0], {}) is None else None


def construct(blurrer, cameras):
    """An instance of the module's HeadBlurrer. `num_camera` is passed where the constructor takes it."""
    signature = signature_of(blurrer)
    if signature is None:
        return blurrer(num_camera=cameras)
    parameters = signature.parameters.values()
    if any(p.name == "num_camera" or p.kind is p.VAR_KEYWORD for p in parameters):
        return blurrer(num_camera=cameras)
    missing = [
        p for p in parameters
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    if len(missing) == 1 and COUNTS.fullmatch(missing[0].name) and missing[0].kind is not missing[0].POSITIONAL_ONLY:
        # The same under another name: num_cameras, camera_count, n_cams.
        return blurrer(**{missing[0].name: cameras})
    if missing:
        raise Refused(
            f"HeadBlurrer's constructor needs {', '.join(p.name for p in missing)}; the only parameter the host can give is "
            "num_camera, so give the others defaults"
        )
    return blurrer()


class Module:
    """A loaded blur module and the one interface of it that is used."""

    def __init__(self, path, cameras):
        path = os.path.abspath(path)
        if not os.path.isfile(path):
            raise Refused(f"there is no Python file {path}")
        folder = os.path.dirname(path)
        if folder not in sys.path:
            sys.path.insert(0, folder)
        name = os.path.splitext(os.path.basename(path))[0]
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        self.choose(module, path, cameras)

    def choose(self, module, path, cameras):
        """The class first, then the function, as the old system did; a detector only where there is neither."""
        self.size, self.reset = None, resetter(module)
        if hasattr(module, "HeadBlurrer"):
            blurrer = construct(module.HeadBlurrer, cameras)
            if not callable(getattr(blurrer, "process_frame", None)):
                raise Refused(f"class HeadBlurrer of {path} has no method process_frame(frame, camera_index=0)")
            self.kind, self.interface = "filter", "HeadBlurrer.process_frame"
            self.call = caller(blurrer.process_frame, "camera_index")
            self.reset = resetter(blurrer)
        elif callable(getattr(module, "apply_blur", None)):
            self.kind, self.interface = "filter", "apply_blur"
            self.call = caller(module.apply_blur, "thread_id")
        elif callable(getattr(module, "detect", None)):
            self.kind, self.interface = "detector", "detect"
            self.call = caller(module.detect, "camera_index")
            size = getattr(module, "DETECT_SIZE", None)
            self.size = [int(size[0]), int(size[1])] if size else None
        else:
            raise Refused(
                f"{path} has neither a class HeadBlurrer (process_frame), nor a function apply_blur(frame, thread_id=0), "
                "nor a function detect(frame, camera_index)"
            )

    def run(self, frame, camera):
        """What the module returns. A child that it forked ends here, before it touches a frame or answers."""
        try:
            return self.call(frame, camera)
        finally:
            end_if_forked()

    def filter(self, frame, camera):
        """Has the module change `frame`. What it returns must look like the frame it was given."""
        import numpy

        result = self.run(frame, camera)
        if result is None:
            raise Refused(f"{self.interface} returned None; it must return the frame (the one it was given, or a new one)")
        if not isinstance(result, numpy.ndarray):
            raise Refused(f"{self.interface} returned {type(result).__name__}; it must return a numpy array")
        if result.shape != frame.shape or result.dtype != frame.dtype:
            raise Refused(
                f"{self.interface} returned an array of shape {result.shape} and type {result.dtype}; "
                f"it must be {frame.shape} and {frame.dtype}, as the frame it was given"
            )
        if not numpy.shares_memory(result, frame):
            frame[...] = result
        elif result.ctypes.data != frame.ctypes.data or result.strides != frame.strides:
            frame[...] = result.copy()

    def detect(self, frame, camera):
        """The module's boxes as plain numbers: x, y, width, height in pixels of `frame`, and a score of 0 to 1."""
        result = self.run(frame, camera)
        if result is None:
            raise Refused("detect returned None; it must return a list of (x, y, w, h, score), empty when nothing is there")
        if isinstance(result, (dict, str, bytes, bytearray)):
            # An empty one is no empty list: nobody says that nothing is there.
            raise Refused(f"detect returned {type(result).__name__}; it must return a list of (x, y, w, h, score)")
        regions = []
        for region in result:
            numbers = [float(number) for number in region]
            if len(numbers) != 5:
                raise Refused(f"detect returned a region of {len(numbers)} numbers; it must be (x, y, w, h, score)")
            regions.append(numbers)
        return regions


class Frames:
    """The shared memory, mapped again when the host has made it larger."""

    def __init__(self, descriptor):
        self.descriptor, self.memory, self.lent = descriptor, None, {}

    def view(self, offset, width, height):
        """A writable, contiguous BGR array over the frame that lies in the shared memory at `offset`."""
        try:
            import numpy
        except ImportError as error:
            raise Refused(f"numpy is missing in {sys.executable}: install it there, or name another python_executable") from error
        needed = width * height * 3
        if self.memory is None or len(self.memory) < offset + needed:
            self.memory = mmap.mmap(self.descriptor, os.fstat(self.descriptor).st_size)
        pixels = numpy.frombuffer(self.memory, numpy.uint8, needed, offset)
        # The frame and whatever the module makes as a view into it keep this array alive.
        self.lent[offset] = needed, weakref.ref(pixels)
        return pixels.reshape(height, width, 3)

    def held(self):
        """Offset and length of each frame that the module holds: the frame it was lent there, or a view into it."""
        self.lent = {offset: lent for offset, lent in self.lent.items() if lent[1]() is not None}
        return [[offset, length] for offset, (length, _) in self.lent.items()]


def answer(request, state, frames):
    """What to send back for one request."""
    if request["op"] == "load":
        frames.view(0, 1, 1)  # a missing numpy is told before the module's own import of it
        module = state["module"] = Module(request["module"], request["cameras"])
        resets = module.reset is not None
        return {"ok": True, "kind": module.kind, "interface": module.interface, "size": module.size, "resets": resets}
    if request["op"] == "reset":
        state["module"].reset(request["camera"])
        return {"ok": True}
    return dict(work(request, state["module"], frames), ok=True)


def work(request, module, frames):
    """The module's part of an answer. Nothing of the frame is held here afterwards."""
    frame = frames.view(request["offset"], request["width"], request["height"])
    given = frame.copy() if request["copy"] else frame
    if module.kind == "detector":
        return {"regions": module.detect(given, request["camera"])}
    module.filter(given, request["camera"])
    if given is not frame:
        frame[...] = given
    return {}


def advice(error):
    """What to do about it, to follow its words; empty where its words are all that is known."""
    if isinstance(error, ModuleNotFoundError):
        return (
            f"; install it in {sys.executable}, or name an interpreter that has it (a venv's, say) with "
            '"plugin": {"python_executable": ...}'
        )
    # Libraries wrap what they were refused.
    wrapped, seen = error, []
    while wrapped is not None and wrapped not in seen:
        # Without a network no name is known either.
        if isinstance(wrapped, (PermissionError, socket.gaierror)):
            return (
                '; unless "sandbox" is "off", modules have no network and write to temporary folders and those of '
                '"sandbox_writable" only'
            )
        seen.append(wrapped)
        wrapped = wrapped.__cause__ or wrapped.__context__
    return ""


def end_if_forked():
    """Ends this process if it is not the host's interpreter but a child of it, forked by the module in whichever way."""
    if os.getpid() == INTERPRETER:
        return
    error = sys.exc_info()[1]
    succeeded = error is None or (isinstance(error, SystemExit) and not error.code)
    if not succeeded and not isinstance(error, SystemExit):
        traceback.print_exc()
    os._exit(0 if succeeded else 1)


def main():
    control, frames = socket.socket(fileno=os.dup(0)), Frames(os.dup(1))
    # A child has no part in the conversation: its descriptor leads nowhere.
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.register_at_fork(after_in_child=lambda: os.dup2(nowhere, control.fileno(), inheritable=False))
    # The module may read and print: nothing comes in, and what it prints belongs in the log.
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    state = {}
    lines = control.makefile("rwb")
    # Read line by line: a buffered iterator would wait for more than one request.
    for line in iter(lines.readline, b""):
        request = json.loads(line)
        try:
            reply = answer(request, state, frames)
        except Refused as error:
            reply = {"ok": False, "error": str(error), "traceback": ""}
        except BaseException as error:  # noqa: B902 - also SystemExit: a module that calls exit() failed
            end_if_forked()
            reply = {
                "ok": False,
                "error": f"{type(error).__name__}: {error}{advice(error)}",
                "traceback": traceback.format_exc(),
            }
        end_if_forked()
        reply.update(number=request["number"], held=frames.held())
        try:
            sys.stdout.flush()
        except (AttributeError, OSError, ValueError):
            pass  # the module replaced or closed it
        lines.write(json.dumps(reply).encode() + b"\n")
        lines.flush()
    # The host is gone or done with the module: what it registered runs, its threads are not waited for.
    atexit._run_exitfuncs()
    os._exit(0)


if __name__ == "__main__":
    main()
