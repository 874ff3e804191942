"""The outputs to be judged, made as a user makes them: an emulator, a job file, a run."""

import json
import os
import subprocess
from bisect import bisect_left
from dataclasses import dataclass, field
from pathlib import Path

RECORDINGS = Path(__file__).resolve().parents[2] / "tests" / "recordings" / "scenarios"

# Places between the first and the last frame, and key frames, that are looked at.
BETWEEN = 9
GROUPS = 4
# Frames further apart have a gap between them: more than any scenario's frame lasts.
GAP_SECONDS = 0.6

# All recordings are of this day.
DAY = ("2024-03-01T00:00:00Z", "2024-03-02T00:00:00Z")


@dataclass
class Frame:
    """A frame as a plain decode from the start gives it."""

    pts: int
    seconds: float
    hash: str
    is_key: bool = False


@dataclass
class Output:
    """One video, what is in it, and what became of it in each player."""

    name: str
    path: Path
    codec: str = ""
    sound: str = ""
    width: int = 0
    height: int = 0
    duration: float = 0.0
    frames: list = field(default_factory=list)
    # (good, of how many) by player
    seeks: dict = field(default_factory=dict)
    # players that played it to its end
    played: list = field(default_factory=list)
    problems: list = field(default_factory=list)

    def places(self):
        """The indices of the frames to seek: the first and last two, those beside gaps, a few before and at key
        frames, and some between."""
        last = len(self.frames) - 1
        wanted = {0, 1, last - 1, last}
        wanted |= {last * step // (BETWEEN + 1) for step in range(1, BETWEEN + 1)}
        keys = [at for at, frame in enumerate(self.frames) if frame.is_key and at > 0]
        for after in self.after_gaps() + keys[:: len(keys) // GROUPS + 1]:
            wanted |= {after - 1, after}
        return sorted(place for place in wanted if 0 <= place <= last)

    def after_gaps(self):
        """The indices of the frames that are the first after a gap."""
        pairs = zip(self.frames, self.frames[1:])
        return [at for at, (one, next_one) in enumerate(pairs, 1) if next_one.seconds - one.seconds > GAP_SECONDS]

    def index_of(self, pts):
        """Which frame has that time, if any."""
        at = bisect_left([frame.pts for frame in self.frames], pts)
        return at if at < len(self.frames) and self.frames[at].pts == pts else None

    def sought(self, player, problem):
        """Notes one seek, and what was wrong with it."""
        good, total = self.seeks.get(player, (0, 0))
        self.seeks[player] = (good + (not problem), total + 1)
        if problem:
            self.wrong(player, problem)

    def wrong(self, player, problem):
        """Notes what is wrong."""
        self.problems.append(f"{player}: {problem}")


def export(program, scenario, timelines, folder):
    """Exports a scenario from an emulator of its own, a job for each timeline; gives the outputs."""
    home = folder / scenario
    home.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {
        "AWS_ACCESS_KEY_ID": "dummy",
        "AWS_SECRET_ACCESS_KEY": "dummy",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(home / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(home / "no-credentials"),
    }
    command = [program, "emulator", "--port", "0", "--scenario", RECORDINGS / f"{scenario}.toml"]
    with open(home / "emulator.log", "w", encoding="utf-8") as log:
        emulator = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        endpoint = emulator.stdout.readline().strip()
        if not endpoint:
            raise SystemExit(f"{scenario}: the emulator does not start:\n{(home / 'emulator.log').read_text()}")
        (home / "jobs.toml").write_text(job_file(endpoint, timelines), encoding="utf-8")
        command = [program, "--format", "json", "--progress", "none", "run", home / "jobs.toml"]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    finally:
        emulator.terminate()
        emulator.wait()
    if run.returncode != 0:
        raise SystemExit(f"{scenario}: kvs-export ended with {run.returncode}:\n{run.stderr}{run.stdout}")
    return [
        Output(f"{scenario}/{Path(path).stem}", Path(path))
        for one in json.loads(run.stdout)["exports"]
        for path in one["output"]
    ]


def job_file(endpoint, timelines):
    """The job file for an emulator at that address."""
    head = f"""version = 1
state = "state.db"
work = "chunks"

[aws]
region = "us-west-2"
endpoint_url = "{endpoint}"

[limits]
min_free = "0 B"

[defaults]
output = "out/{{job}}.mp4"
streams = ["gate"]
from = {DAY[0]}
to = {DAY[1]}
"""
    jobs = [f'\n[[job]]\nname = "{timeline}"\ntimeline = "{timeline}"\n' for timeline in timelines]
    return head + "".join(jobs)
