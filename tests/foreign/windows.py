"""Checks src/job/tests/windows.txt against Python's own calendar and time zones.

    python3 tests/foreign/windows.py TABLE          says where the table is wrong; exit code 1
    python3 tests/foreign/windows.py TABLE --print  writes the table as it should be, without warnings

It shares nothing with the program, not even the way: it walks a clock on the wall through the range, minute by minute, and
looks at what it shows.
"""

import re
import sys
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

DAY = 86_400
WEEKDAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]


class Wall:
    """What a clock on the wall shows between two instants, in seconds since 1970."""

    def __init__(self, zone, start, end):
        # Minutes of the wall are not always those of UTC.
        offset = datetime.fromtimestamp(start, zone).utcoffset() % timedelta(minutes=1)
        self.step = 30 if offset else 60
        start, end = (int(at) // self.step * self.step for at in (start, end))
        self.instants = range(start, end + 1, self.step)
        self.shown = [datetime.fromtimestamp(at, zone).replace(tzinfo=None) for at in self.instants]
        self.when = {}
        for at, shown in zip(self.instants, self.shown):
            self.when.setdefault(shown, []).append(at)

    def instant(self, reading, side):
        """The first or the last time that it shows this, or the first time that it shows more."""
        if reading in self.when:
            return self.when[reading][0 if side == "from" else -1]
        return next(at for at, shown in zip(self.instants, self.shown) if shown > reading)

    def cuts(self, split):
        """The instants at which a split cuts."""
        if split == "1h":
            step = timedelta(seconds=self.step)
            for at, before, shown in zip(self.instants[1:], self.shown, self.shown[1:]):
                if (shown.minute, shown.second) == (0, 0) or shown - before != step:
                    yield at
            return
        date = self.shown[0].date() + timedelta(days=1)
        while date < self.shown[-1].date():
            if split == "1d" or date.weekday() == 0:
                yield self.instant(datetime.combine(date, datetime.min.time()), "from")
            date += timedelta(days=1)

    def daily(self, hours, days):
        """The daily windows, those left out that the clock skips."""
        first, last = hours.split("-")
        date = self.shown[0].date() + timedelta(days=1)
        while date + timedelta(days=1) < self.shown[-1].date():
            if WEEKDAYS[date.weekday()] in days:
                over = 0 if last > first else 1
                until = "00:00" if last == "24:00" else last
                over = 1 if last == "24:00" else over
                start = self.instant(datetime.fromisoformat(f"{date} {first}"), "from")
                end = self.instant(datetime.fromisoformat(f"{date + timedelta(days=over)} {until}"), "to")
                if start < end:
                    yield start, end
            date += timedelta(days=1)


def seconds(length):
    unit = {"m": 60, "h": 3600, "d": DAY, "w": 7 * DAY}
    return sum(int(number) * unit[of] for number, of in re.findall(r"(\d+)([mhdw])", length))


def bound(text, side, now, zone):
    """The instant of a `from` or `to`."""
    text = text.strip('"')
    shown = datetime.fromtimestamp(now, zone).replace(tzinfo=None)
    if text.endswith("Z"):
        return datetime.fromisoformat(text[:-1]).replace(tzinfo=timezone.utc).timestamp()
    if text == "now":
        return now
    if text.startswith("-") and not re.fullmatch(r"-\d+[dw]", text):
        return now - seconds(text)
    if text.startswith("-"):
        reading = shown - timedelta(seconds=seconds(text))
    elif text.startswith(("today", "yesterday")):
        day, _, time = text.partition(" ")
        date = shown.date() - timedelta(days=int(day == "yesterday"))
        reading = datetime.fromisoformat(f"{date} {time or '00:00'}")
    else:
        reading = datetime.fromisoformat(text)
    about = reading.replace(tzinfo=timezone.utc).timestamp()
    return Wall(zone, about - 3 * DAY, about + 3 * DAY).instant(reading, side)


def ranges(job, now, zone):
    if "last" in job:
        now = now // 60 * 60
        length = job["last"].strip('"')
        start = bound(f"-{length}", "from", now, zone)
        return [(start, now)]
    # A range that is skipped as a whole waits for the next day's.
    pairs = re.findall(r'from = ([^,}]+?), to = ([^,}]+?) *}', job.get("ranges", "")) or [(job["from"], job["to"])]
    found = [(bound(start, "from", now, zone), bound(end, "to", now, zone)) for start, end in pairs]
    return found if all(start < end for start, end in found) else ranges(job, now + DAY, zone)


def is_fixed(text):
    """Whether it says an instant, whatever the time of day."""
    return text.strip('"')[0].isdigit()


def windows(job, now):
    """What a job exports: begin and end of each window, in seconds since 1970."""
    zone = ZoneInfo(job["time_zone"].strip('"'))
    found = []
    asked = ranges(job, now, zone)
    moved = "last" not in job and "ranges" not in job and bound(job["from"], "from", now, zone) != asked[0][0]
    waiting = set()
    for start, end in asked:
        # Of a range of which only the end moves, the last window is whole, and waits for that.
        stays = "from" in job and is_fixed(job["from"]) and not is_fixed(job["to"])
        reach = end + 9 * DAY if stays else end
        wall = Wall(zone, start - 4 * DAY, reach + 3 * DAY)
        spans = [(start, reach)]
        if "daily" in job:
            days = re.findall(r"[a-z]+", job.get("days", "")) or WEEKDAYS
            spans = list(wall.daily(job["daily"].strip('"'), days))
        cuts = sorted(set(wall.cuts(job["split"].strip('"')))) if "split" in job else []
        for first, last in spans:
            first, last = max(first, start), min(last, reach)
            edges = [first, *(cut for cut in cuts if first < cut < last), last]
            found += [edge for edge in zip(edges, edges[1:]) if edge[0] < min(edge[1], end)]
        waiting |= {edge for edge in found if edge[1] > end}
        if not found:
            # A range that moves waits for the next window.
            later = Wall(zone, now - 2 * DAY, now + 12 * DAY).daily(job["daily"].strip('"'), days)
            found = [next(span for span in later if span[0] >= max(end, now))]
    return found, zone, waiting, moved


def length(span):
    hours, rest = divmod(int(span), 3600)
    minutes, rest = divmod(rest, 60)
    parts = [(hours, "h"), (minutes, "m"), (rest, "s")]
    return "".join(f"{number}{unit}" for number, unit in parts if number)


def rows(job, now):
    found, zone, waiting, moved = windows(job, now)
    for start, end in found:
        shown = [datetime.fromtimestamp(at, zone).strftime("%a %Y-%m-%dT%H:%M:%S%z") for at in (start, end)]
        pending = "  pending" if moved or end > now or (start, end) in waiting else ""
        yield f"    {shown[0]}  {shown[1]}  {length(end - start)}{pending}"


def main(path, *options):
    wrong = cases = 0
    with open(path, encoding="utf-8") as table:
        blocks = [block.splitlines() for block in table.read().strip().split("\n\n")]
    for block in blocks:
        head = [line for line in block if not line.startswith("    ")]
        said = [line for line in block if line.startswith("    ") and not line.startswith("    !")]
        keys = dict(line.split(" = ", 1) for line in head if not line.startswith("#"))
        if not keys:
            if "--print" in options:
                print("\n".join(block), end="\n\n")
            continue
        cases += 1
        now = datetime.fromisoformat(keys["now"][:-1]).replace(tzinfo=timezone.utc).timestamp()
        right = list(rows(keys, now))
        if "--print" in options:
            print("\n".join([*head, *right]), end="\n\n")
        elif said != right:
            wrong += 1
            print("\n".join([*head, "in the table:", *said, "by the calendar:", *right]), end="\n\n")
    if "--print" not in options:
        print(f"{cases} cases, {wrong} wrong")
    return 1 if wrong or not cases else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
