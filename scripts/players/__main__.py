"""Whether players open, seek and play what kvs-export makes: ffmpeg, ffplay and a headless Chromium.

Exports scenario files from an emulator, and asks each player for frames from the first to the last. Prints a table;
ends with 1 where anything is wrong.
"""

import argparse
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import chromium
import ffmpeg
import outputs

# What differs for players, and the timelines in which it does.
SCENARIOS = {
    "reordered": ("compact", "wallclock"),
    "aac": ("compact", "wallclock"),
    "g711": ("compact", "wallclock"),
    "sound-begins-and-ends": ("compact",),
    "h265-aac": ("compact",),
    "codec-change": ("compact",),
    "resolution-and-back": ("compact",),
    "jittered-lengths": ("compact",),
    "lengths-of-0": ("compact", "wallclock"),
    "long-gap": ("compact", "wallclock"),
    "restart-that-overlaps": ("compact", "wallclock"),
}

# Players wait more than they work; an emulator of its own for each scenario does not.
AT_ONCE = 2 * (os.cpu_count() or 1)


def main():
    arguments = read_arguments()
    folder = Path(arguments.keep or tempfile.mkdtemp(prefix="kvs-export-players-")).resolve()
    try:
        return check(arguments, folder)
    finally:
        if not arguments.keep:
            shutil.rmtree(folder)


def read_arguments():
    parser = argparse.ArgumentParser(prog="players", description=__doc__)
    parser.add_argument("what", nargs="*", help=f"videos, or some of {', '.join(SCENARIOS)}; without it all of these")
    parser.add_argument("--program", type=Path, default="kvs-export", help="the kvs-export that exports them")
    parser.add_argument("--keep", metavar="FOLDER", help="leave the outputs there, and what Chromium showed of them")
    parser.add_argument("--no-chromium", action="store_true", help="ask ffmpeg and ffplay only")
    arguments = parser.parse_args()
    for what in arguments.what:
        if what not in SCENARIOS and not Path(what).is_file():
            parser.error(f"{what}: neither a video nor one of {', '.join(SCENARIOS)}")
    return arguments


def check(arguments, folder):
    with ThreadPoolExecutor(AT_ONCE) as pool:
        scenarios = [what for what in arguments.what or SCENARIOS if what in SCENARIOS]
        if scenarios:
            say(f"exporting {len(scenarios)} scenarios")
        program = shutil.which(arguments.program) or arguments.program
        made = pool.map(lambda name: outputs.export(program, name, SCENARIOS[name], folder), scenarios)
        videos = [output for some in made for output in some]
        paths = [Path(what) for what in arguments.what if what not in SCENARIOS]
        videos += [outputs.Output(str(path), path.resolve()) for path in paths]
        say(f"asking ffmpeg and ffplay for frames of {len(videos)} outputs")
        opened = [output for output, is_open in zip(videos, pool.map(ffmpeg.look, videos)) if is_open]
        # In real time, and beside the seeks.
        played = [pool.submit(ffmpeg.play, output) for output in opened]
        sought = [pool.submit(ffmpeg.seek, output, place) for output in opened for place in output.places()]
        for one in played + sought:
            one.result()
    # Whether a browser has H.265 depends on the machine.
    shown = [output for output in opened if output.codec == "h264" and not arguments.no_chromium]
    if shown:
        say(f"showing {len(shown)} outputs to Chromium")
        chromium.show(shown, folder)
    return report(videos)


def report(videos):
    """Prints the table and whatever is wrong; gives the exit code."""
    head = ["output", "codecs", "frames", "duration", "seeks in ffmpeg", "ffplay", "seeks in Chromium", "played there"]
    table = [head]
    for output in videos:
        codecs = "+".join(filter(None, [output.codec, output.sound]))
        row = [output.name, codecs, str(len(output.frames)), f"{output.duration:.3f} s"]
        for player, own in (("ffmpeg", "ffplay"), ("chromium", "chromium")):
            good, total = output.seeks.get(player, (0, 0))
            row += [f"{good}/{total}" if total else "-", "to its end" if own in output.played else "-"]
        table.append(row)
    widths = [max(map(len, column)) for column in zip(*table)]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    problems = [f"{output.name}: {problem}" for output in videos for problem in output.problems]
    print(f"\n{len(videos)} outputs; {len(problems) or 'nothing'} wrong")
    for problem in problems:
        print("  " + problem.strip().replace("\n", "\n    "))
    return 1 if problems or not videos else 0


def say(text):
    print(f"== {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
