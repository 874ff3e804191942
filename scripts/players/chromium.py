"""What a headless Chromium shows of the outputs. As a program it prints where Chromium is, or ends with 1."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PAGE = Path(__file__).with_name("page.html")
NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
APPLICATIONS = [
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
]

# So long after its begin a frame is asked for.
BEGIN_SECONDS = 0.0005
# Without a word from the page for so long, it is given up; for machines that are very slow.
SILENCE_SECONDS = 900
# What lasts longer is played only from its last seconds on; the rest as fast as Chromium can.
PLAYED_WHOLE_SECONDS = 600
LAST_SECONDS = 3
FASTEST = 16
# The mean difference of a picture's colours (0 to 255) that other arithmetic for the same frame may make.
SAME_PICTURE = 30


def find():
    """The path of a Chromium or Chrome, if there is one."""
    homes = [str(Path.home()) + path for path in APPLICATIONS]
    paths = [shutil.which(name) for name in NAMES] + [path for path in APPLICATIONS + homes if os.path.exists(path)]
    return next(filter(None, paths), None)


def show(outputs, folder):
    """Shows the outputs to Chromium, and notes at each what was wrong."""
    # Imported here, so that finding Chromium needs no more than Python.
    import ffmpeg

    stage = Stage()
    for number, output in enumerate(outputs):
        places = output.places()
        wanted = {near for place in places for near in range(place - 1, place + 2) if 0 <= near < len(output.frames)}
        references = ffmpeg.pictures(output, sorted(wanted), folder / "references" / str(number))
        stage.references.update({f"/references/{number}/{near}.png": path for near, path in references.items()})
        stage.videos[f"/videos/{number}.mp4"] = output.path
        seeks = [seek for place in in_no_order(places) for seek in seeks_of(output, place, references)]
        middle = places[len(places) // 2]
        pictures = [places[0], middle, places[-1]]
        whole = output.duration <= PLAYED_WHOLE_SECONDS
        play = {"from": 0 if whole else output.duration - LAST_SECONDS, "rate": FASTEST if whole else 1}
        stage.scenes.append({"number": number, "seeks": seeks, "pictures": pictures, "play": play})
    stage.pictures = folder / "pictures"
    stage.pictures.mkdir(exist_ok=True)
    stage.run(folder)
    for number, output in enumerate(outputs):
        for place, picture in stage.shown.get(number, {}).items():
            (stage.pictures / f"{output.name.replace('/', '-')}-{place}.png").write_bytes(picture)
        if number in stage.results:
            judge(output, stage.results[number], len(stage.scenes[number]["seeks"]))
        else:
            output.wrong("chromium", f"never came to it: {stage.ended}")


def seeks_of(output, place, references):
    """Where to seek for a frame, and the pictures to compare what is shown with."""
    begins = output.frames[place].seconds
    ends = output.frames[place + 1].seconds if place + 1 < len(output.frames) else output.duration
    middle = (begins + ends) / 2
    # Not at its begin: a page's times are binary fractions, and Chromium cuts them to microseconds.
    times = [min(begins + BEGIN_SECONDS, middle)]
    if place + 1 in output.after_gaps():
        # It is shown until the gap is over.
        times.append(middle)
    elif place % 2:
        times = [middle]
    near = [near for near in range(place - 1, place + 2) if near in references]
    return [{"place": place, "time": time, "near": near} for time in times]


def in_no_order(places):
    """The same places, from both ends inwards, so that every seek goes a long way; the first frame last."""
    order = []
    rest = places[1:]
    while rest:
        order.append(rest.pop())
        if rest:
            order.append(rest.pop(0))
    return order + places[:1]


def judge(output, result, seeks):
    """Notes what is wrong with what the page saw."""
    for error in result["errors"]:
        output.wrong("chromium", error)
    if (result["width"], result["height"]) != (output.width, output.height):
        output.wrong("chromium", f"it is {result['width']}×{result['height']}, not {output.width}×{output.height}")
    shortest = min([b.seconds - a.seconds for a, b in zip(output.frames, output.frames[1:])], default=1)
    if abs((result["duration"] or 0) - output.duration) > max(shortest, 0.05):
        output.wrong("chromium", f"it lasts {result['duration']} s, not {output.duration} s")
    for seen in result["seeks"]:
        output.sought("chromium", wrong_with(output, seen))
    # What follows an error was not tried.
    output.seeks["chromium"] = (output.seeks.get("chromium", (0, 0))[0], seeks)
    if result["ended"] is None:
        output.wrong("chromium", "it did not play to the end")
    elif abs(result["ended"] - output.duration) > 0.5:
        output.wrong("chromium", f"it ended at {result['ended']} s, not at {output.duration} s")
    elif output.sound and not result["sound"]:
        output.wrong("chromium", f"it played to the end without a sound of its {output.sound}")
    elif not result["errors"]:
        output.played.append("chromium")


def wrong_with(output, seen):
    """What is wrong with one seek; nothing, if it showed the frame."""
    place, asked, shown = seen["place"], f"{seen['time']:.4f} s", seen["mediaTime"]
    expected = output.frames[place].seconds
    if shown is None:
        return f"a seek to {asked} shows nothing"
    neighbours = [output.frames[near].seconds for near in (place - 1, place + 1) if 0 <= near < len(output.frames)]
    half = min([abs(near - expected) for near in neighbours], default=0.1) / 2
    if abs(shown - expected) >= half:
        return f"a seek to {asked} shows {shown:.4f} s, not frame {place} at {expected:.4f} s"
    differences = {int(near): difference for near, difference in seen["differences"].items()}
    nearest = min(differences, key=differences.get)
    if differences[place] > min(differences.values()) or differences[place] > SAME_PICTURE:
        told = ", ".join(f"{near} by {difference:.1f}" for near, difference in differences.items())
        what = f"the picture of frame {nearest}" if nearest != place else "another picture"
        return f"a seek to {asked} shows {what}, not frame {place}: it differs from {told}"
    return ""


class Stage:
    """A server on loopback with a page, videos and reference pictures, and a Chromium that opens it."""

    def __init__(self):
        self.scenes = []
        self.videos = {}
        self.references = {}
        self.pictures = None
        self.shown = {}
        self.results = {}
        self.ended = ""
        self.heard_at = time.monotonic()
        self.done = threading.Event()

    def run(self, folder):
        """Lets Chromium show every scene, and ends it."""
        chromium = find()
        if not chromium:
            raise SystemExit("no Chromium: scripts/setup.sh players installs it, or says how")
        handler = type("Handler", (Handler,), {"stage": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with tempfile.TemporaryDirectory(prefix="kvs-export-chromium-", ignore_cleanup_errors=True) as profile:
                self.browse(chromium, f"http://127.0.0.1:{server.server_port}/", profile, folder / "chromium.log")
        finally:
            server.shutdown()
            server.server_close()

    def browse(self, chromium, address, profile, log):
        """Opens the page, waits until it is through, and ends Chromium."""
        command = [chromium, "--headless=new", f"--user-data-dir={profile}", "--no-first-run"]
        command += ["--no-default-browser-check", "--no-proxy-server", "--disable-background-networking"]
        command += ["--disable-component-update", "--disable-sync", "--disable-gpu", "--disable-dev-shm-usage"]
        command += ["--mute-audio", "--autoplay-policy=no-user-gesture-required", "--window-size=1280,720"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            # Its sandbox is not for root.
            command.append("--no-sandbox")
        with open(log, "w", encoding="utf-8") as messages:
            # A group of its own: it consists of many processes.
            running = subprocess.Popen([*command, address], stdout=messages, stderr=messages, start_new_session=True)
        try:
            self.heard_at = time.monotonic()
            while not self.done.wait(1):
                if running.poll() is not None:
                    self.ended = f"it ended with {running.returncode}: {last_lines(log)}"
                    break
                if time.monotonic() - self.heard_at > SILENCE_SECONDS:
                    self.ended = f"it was silent for {SILENCE_SECONDS} s: {last_lines(log)}"
                    break
        finally:
            end(running)


def end(running):
    """Ends Chromium and whatever it started."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(running.pid, sign)
        except ProcessLookupError:
            break
        try:
            running.wait(30)
        except subprocess.TimeoutExpired:
            continue


def last_lines(log):
    """The end of Chromium's messages."""
    return " / ".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])


class Handler(BaseHTTPRequestHandler):
    """Answers the page."""

    stage = None
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.stage.heard_at = time.monotonic()
        if self.path == "/":
            self.answer(PAGE.read_bytes(), "text/html; charset=utf-8")
        elif self.path == "/scenes":
            self.answer(json.dumps(self.stage.scenes).encode(), "application/json")
        elif self.path in self.stage.references:
            self.answer(self.stage.references[self.path].read_bytes(), "image/png")
        elif self.path in self.stage.videos:
            self.answer_range(self.stage.videos[self.path])
        else:
            self.send_error(404)

    def do_POST(self):
        self.stage.heard_at = time.monotonic()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        what, *rest = self.path.strip("/").split("/")
        if what == "result":
            self.stage.results[int(rest[0])] = json.loads(body)
        elif what == "picture":
            self.stage.shown.setdefault(int(rest[0]), {})[int(rest[1])] = body
        elif what == "done":
            self.stage.ended = json.loads(body)
            self.stage.done.set()
        self.answer(b"", "text/plain")

    def answer(self, body, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.send(body)

    def answer_range(self, path):
        """A stretch of a video, as every web server can give it."""
        size = path.stat().st_size
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first = int(asked[1]) if asked else 0
        last = min(int(asked[2]) if asked and asked[2] else size - 1, size - 1)
        if first > last:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Type", "video/mp4")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        with open(path, "rb") as video:
            video.seek(first)
            self.send(video.read(last - first + 1))

    def send(self, body):
        self.wfile.write(body)

    def handle(self):
        # Chromium drops a connection to seek elsewhere, and all of them when it ends.
        with contextlib.suppress(ConnectionError):
            super().handle()

    def log_message(self, *_):
        """Says nothing of requests."""


if __name__ == "__main__":
    print(find() or sys.exit(1))
