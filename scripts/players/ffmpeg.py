"""What ffprobe and ffmpeg read in an output, and whether ffmpeg and ffplay come to the frames they are asked for."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from outputs import Frame

FFMPEG = os.environ.get("KVS_EXPORT_FFMPEG") or "ffmpeg"

# Seconds of the beginning that ffplay plays; it has no other speed than the camera's.
BEGINNING = 2

# ffplay says this of a machine without a screen.
OF_THE_MACHINE = "Failed to initialize a hardware accelerated renderer"


def beside(name):
    """The program of that name that belongs to ffmpeg."""
    own = Path(FFMPEG).with_name(name)
    return str(own) if os.sep in FFMPEG and own.exists() else shutil.which(name) or name


def look(output):
    """Opens the output, decodes all of it from the start and notes what is in it; says whether that was possible."""
    probed = run(
        [beside("ffprobe"), "-v", "warning", "-show_entries", "format=duration", "-show_streams", "-of", "json"]
        + ["-show_packets", output.path]
    )
    read = json.loads(probed.stdout or "{}")
    video = next((one for one in read.get("streams", []) if one["codec_type"] == "video"), None)
    if probed.returncode != 0 or not video:
        output.wrong("ffprobe", probed.stderr.strip() or "no video in it")
        return False
    if probed.stderr.strip():
        output.wrong("ffprobe", probed.stderr.strip())
    output.codec, output.width, output.height = video["codec_name"], video["width"], video["height"]
    output.sound = next((one["codec_name"] for one in read["streams"] if one["codec_type"] == "audio"), "")
    output.duration = float(read["format"]["duration"])
    decode(output, video["time_base"])
    packets = sorted(
        (packet["pts"], "K" in packet["flags"])
        for packet in read["packets"]
        if packet["stream_index"] == video["index"]
    )
    if [pts for pts, _ in packets] != [frame.pts for frame in output.frames]:
        output.wrong("ffmpeg", f"{len(packets)} packets, {len(output.frames)} frames, or at other times")
    for frame, (_, is_key) in zip(output.frames, packets):
        frame.is_key = is_key
    ends = output.frames[-1].seconds if output.frames else 0.0
    if output.duration < ends:
        output.wrong("ffprobe", f"it lasts {output.duration} s and its last frame is at {ends} s")
    return bool(output.frames)


def decode(output, time_base):
    """Notes every frame that a decode from the start gives."""
    decoded = run(
        [FFMPEG, "-nostdin", "-v", "warning", "-i", output.path, "-map", "0:v", "-fps_mode", "passthrough"]
        + ["-enc_time_base", "-1", "-f", "framemd5", "-"]
    )
    if decoded.returncode != 0 or decoded.stderr.strip():
        output.wrong("ffmpeg", decoded.stderr.strip() or f"it ended with {decoded.returncode}")
    base, second = (int(part) for part in time_base.split("/"))
    if f"#tb 0: {time_base}\n" not in decoded.stdout:
        output.wrong("ffmpeg", f"it does not count frames in {time_base} s")
    for fields in rows(decoded.stdout):
        pts = int(fields[2])
        output.frames.append(Frame(pts, pts * base / second, fields[5]))


def seek(output, place):
    """Seeks a frame's time as a user does: it must be the frame that the decode from the start gave."""
    wanted = output.frames[place]
    sought = run(
        [FFMPEG, "-nostdin", "-v", "warning", "-ss", microseconds(wanted), "-i", output.path, "-map", "0:v"]
        + ["-frames:v", "1", "-f", "framemd5", "-"]
    )
    found = [fields[5] for fields in rows(sought.stdout)]
    problem = sought.stderr.strip()
    if found != [wanted.hash]:
        others = [at for at, frame in enumerate(output.frames) if [frame.hash] == found]
        problem = f"a seek to {where(output, place)} gives {others or found or 'nothing'} {problem}"
    output.sought("ffmpeg", problem)


def play(output):
    """Lets ffplay play the beginning, and from the last key frame to the end."""
    keys = [at for at, frame in enumerate(output.frames) if frame.is_key]
    good = True
    for arguments, first, last in [
        (["-t", str(BEGINNING)], 0, None),
        (["-ss", microseconds(output.frames[keys[-1]])], keys[-1], len(output.frames) - 1),
    ]:
        shown, complaints = ffplay(output, arguments)
        places = [output.index_of(pts) for pts in shown]
        for complaint in complaints:
            output.wrong("ffplay", complaint)
        right = bool(places) and None not in places and places == list(range(places[0], places[-1] + 1))
        # It may show more than was asked for: from the key frame before, and whole groups.
        if not right or places[0] > first or (last is None and places[0] != 0) or (last or 1) > places[-1]:
            output.wrong("ffplay", f"{' '.join(arguments)} shows the frames {places}, not from {first} on")
            right = False
        good = good and right and not complaints
    if good:
        output.played.append("ffplay")


def ffplay(output, arguments):
    """The times of the frames that ffplay shows, and what it complains of."""
    environment = os.environ | {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"}
    played = run(
        [beside("ffplay"), "-hide_banner", "-loglevel", "level+info", "-nostats", "-noframedrop", "-autoexit"]
        + ["-vf", "showinfo", *arguments, output.path],
        env=environment,
    )
    shown = [int(pts) for pts in re.findall(r"\bn: *\d+ pts: *(-?\d+) pts_time:", played.stderr)]
    lines = played.stderr.splitlines()
    complaints = [line for line in lines if re.search(r"\[(warning|error|fatal|panic)\]", line)]
    complaints = [line for line in complaints if OF_THE_MACHINE not in line]
    if played.returncode != 0:
        complaints.append(f"it ended with {played.returncode}")
    return shown, complaints


def pictures(output, places, folder):
    """Writes those frames, decoded from the start, as pictures; gives the path of each."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = "+".join(f"eq(n,{place})" for place in places)
    written = run(
        [FFMPEG, "-nostdin", "-v", "error", "-i", output.path, "-map", "0:v", "-vf", f"select='{chosen}'"]
        + ["-fps_mode", "passthrough", "-start_number", "0", "-y", folder / "%d.png"]
    )
    if written.returncode != 0:
        output.wrong("ffmpeg", written.stderr.strip())
    return {place: folder / f"{at}.png" for at, place in enumerate(places)}


def microseconds(frame):
    """A frame's time as an argument, never later than the frame."""
    return f"{int(frame.seconds * 1_000_000) / 1_000_000:.6f}"


def where(output, place):
    """Names a frame."""
    return f"frame {place} of {len(output.frames)} at {output.frames[place].seconds:.4f} s"


def rows(framemd5):
    """The rows of such a list, in fields."""
    lines = (line for line in framemd5.splitlines() if line and not line.startswith("#"))
    return [[one.strip() for one in line.split(",")] for line in lines]


def run(command, **more):
    """Runs a program to its end."""
    words = [str(word) for word in command]
    more |= {"capture_output": True, "text": True, "errors": "replace", "check": False}
    return subprocess.run(words, stdin=subprocess.DEVNULL, **more)
