"""Asks the emulator through boto3 and the AWS CLI, and checks what is known of the service.

Usage: check.py ENDPOINT TRUTH AWS
ENDPOINT is the control plane, TRUTH a JSON file {stream: [fragments]}, AWS the CLI's program.
"""

import json
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import boto3
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

ENDPOINT, TRUTH, AWS = sys.argv[1:]
START = datetime(2024, 3, 1, tzinfo=timezone.utc)
MARK = b"kvs-export-frame"

with open(TRUTH, encoding="utf-8") as file:
    truth = json.load(file)

checks = 0


def check(condition, what):
    global checks
    checks += 1
    if not condition:
        raise SystemExit(f"FAILED: {what}")


def after(seconds):
    return START + timedelta(seconds=seconds)


def ms(instant):
    return round((instant - datetime(1970, 1, 1, tzinfo=timezone.utc)).total_seconds() * 1000)


def client(service, endpoint, **settings):
    config = Config(retries={"total_max_attempts": 1}, **settings)
    return boto3.client(service, endpoint_url=endpoint, config=config)


control = client("kinesisvideo", ENDPOINT)


def data_client(stream, api, **settings):
    endpoint = control.get_data_endpoint(StreamName=stream, APIName=api)["DataEndpoint"]
    return client("kinesis-video-archived-media", endpoint, **settings)


def selector(kind, start, end):
    return {
        "FragmentSelectorType": kind,
        "TimestampRange": {"StartTimestamp": start, "EndTimestamp": end},
    }


def pages(stream, kind, start, end, **parameters):
    listing = data_client(stream, "LIST_FRAGMENTS")
    paginator = listing.get_paginator("list_fragments")
    return list(
        paginator.paginate(StreamName=stream, FragmentSelector=selector(kind, start, end), **parameters)
    )


def numbers(listing):
    return [fragment["FragmentNumber"] for page in listing for fragment in page["Fragments"]]


def clip(stream, kind, start, end):
    answer = data_client(stream, "GET_CLIP").get_clip(
        StreamName=stream, ClipFragmentSelector=selector(kind, start, end)
    )
    return answer, answer["Payload"].read()


def frames_of(data):
    """The numbers of the fragments in a clip, with how many frames of each there are, in order."""
    counts = {}
    for part in data.split(MARK)[1:]:
        _, number, index, frames = part.split(b"\x80", 1)[0].decode("ascii").split("|")
        check(int(index) == counts.get(number, 0), f"frame {index} of {number} is in its place")
        check(int(index) < int(frames), "a frame's index is below their number")
        counts[number] = counts.get(number, 0) + 1
    return counts


def refused(call, code, status, words=""):
    try:
        call()
    except ClientError as error:
        answer = error.response
        found = (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"])
        check(found == (code, status), f"{found} is {(code, status)}: {error}")
        check(words in answer["Error"]["Message"], f"{words!r} is in {answer['Error']['Message']!r}")
        check(answer["ResponseMetadata"].get("RequestId"), "an error has a request id")
        return
    raise SystemExit(f"FAILED: not refused with {code}")


# --- the control plane
info = control.describe_stream(StreamName="front-gate")
check(info["ResponseMetadata"]["RequestId"], "an answer has a request id")
info = info["StreamInfo"]
check(info["StreamARN"].startswith("arn:aws:kinesisvideo:us-west-2:123456789012:stream/front-gate/"), "the ARN")
check(info["Status"] == "ACTIVE", "the stream is active")
check(info["DataRetentionInHours"] == 87_600, "its retention")
check(info["StreamARN"].endswith(f"/{ms(info['CreationTime'])}"), "the ARN ends in the creation time")
check(control.describe_stream(StreamARN=info["StreamARN"])["StreamInfo"] == info, "a stream is found by its ARN")
refused(lambda: control.describe_stream(StreamName="nobody"), "ResourceNotFoundException", 404)
refused(
    lambda: control.get_data_endpoint(StreamName="nobody", APIName="GET_CLIP"), "ResourceNotFoundException", 404
)
refused(
    lambda: control.describe_stream(StreamName="closed"),
    "AccessDeniedException",
    403,
    "is not authorized to perform: kinesisvideo:DescribeStream on resource: arn:aws:kinesisvideo:",
)
condition = {"ComparisonOperator": "BEGINS_WITH", "ComparisonValue": "yard-"}
listed = list(
    control.get_paginator("list_streams").paginate(
        StreamNameCondition=condition, PaginationConfig={"PageSize": 2}
    )
)
check([len(page["StreamInfoList"]) for page in listed] == [2, 1], "two pages")
names = [stream["StreamName"] for page in listed for stream in page["StreamInfoList"]]
check(sorted(names) == ["yard-north", "yard-south", "yard-west"], "a prefix finds its streams")
check(len(control.list_streams()["StreamInfoList"]) == 9, "without a prefix there are all")
refused(
    lambda: control.list_streams(NextToken=listed[0]["NextToken"], MaxResults=2), "InvalidArgumentException", 400
)
paged = control.get_paginator("list_streams").paginate(PaginationConfig={"PageSize": 4})
check([len(page["StreamInfoList"]) for page in paged] == [4, 4, 1], "all pages without a prefix")
by_cli = subprocess.run(
    [AWS, "kinesisvideo", "list-streams", "--endpoint-url", ENDPOINT, "--output", "json", "--page-size", "1"]
    + ["--stream-name-condition", "ComparisonOperator=BEGINS_WITH,ComparisonValue=yard-"],
    check=True,
    capture_output=True,
)
by_cli = [stream["StreamName"] for stream in json.loads(by_cli.stdout)["StreamInfoList"]]
check(sorted(by_cli) == sorted(names), "the AWS CLI finds the same streams, page by page")
check(control.list_tags_for_stream(StreamName="front-gate")["Tags"] == {}, "no tags")
unsigned = client("kinesisvideo", ENDPOINT, signature_version=UNSIGNED)
refused(lambda: unsigned.list_streams(), "MissingAuthenticationTokenException", 403)

# --- ListFragments
gate = truth["front-gate"]
everything = pages("front-gate", "SERVER_TIMESTAMP", START, after(3600), PaginationConfig={"PageSize": 10})
check([len(page["Fragments"]) for page in everything] == [10, 10, 10, 10, 10, 3], "pages are full but the last")
check(sorted(numbers(everything)) == [fragment["number"] for fragment in gate], "everything exactly once")
check(numbers(everything) != sorted(numbers(everything)), "in no order")
first_page = numbers(everything[:1])
check(max(first_page) > gate[10]["number"], "in no order across pages either")
by_number = {fragment["number"]: fragment for fragment in gate}
for page in everything:
    check(page["ResponseMetadata"]["RequestId"], "a page has a request id")
    for fragment in page["Fragments"]:
        expected = by_number[fragment["FragmentNumber"]]
        check(ms(fragment["ProducerTimestamp"]) == expected["producer_ms"], "the producer timestamp")
        check(ms(fragment["ServerTimestamp"]) == expected["server_ms"], "the server timestamp, with milliseconds")
        check(fragment["FragmentLengthInMilliseconds"] == expected["length_ms"], "the length")
        check(fragment["FragmentSizeInBytes"] == expected["size_bytes"], "the size")
check(len(numbers(pages("yard-north", "PRODUCER_TIMESTAMP", START, after(6)))) == 4, "both ends are inclusive")
check(numbers(pages("yard-north", "PRODUCER_TIMESTAMP", after(1), after(1))) == [], "nothing is no error")
check(len(numbers(pages("front-gate", "PRODUCER_TIMESTAMP", START, START))) == 2, "duplicates are listed")
check(len(pages("yard-north", "SERVER_TIMESTAMP", START, after(400))) == 2, "100 results a page by default")
lenient = data_client("yard-north", "LIST_FRAGMENTS", parameter_validation=False)
for max_results in (0, 1001):
    refused(
        lambda: lenient.list_fragments(
            StreamName="yard-north",
            MaxResults=max_results,
            FragmentSelector=selector("SERVER_TIMESTAMP", START, after(6)),
        ),
        "InvalidArgumentException",
        400,
    )
refused(
    lambda: lenient.list_fragments(
        StreamName="yard-north",
        NextToken="AAAA",
        FragmentSelector=selector("SERVER_TIMESTAMP", START, after(6)),
    ),
    "InvalidArgumentException",
    400,
)
check(numbers(pages("brief", "SERVER_TIMESTAMP", START, after(60))) == [], "retention drops fragments")

# --- GetClip
answer, data = clip("front-gate", "PRODUCER_TIMESTAMP", START, after(6))
check(answer["ContentType"] == "video/mp4", "the content type")
check(answer["ResponseMetadata"]["RequestId"], "a clip has a request id")
check(data[4:8] == b"ftyp", "an MP4")
first_four = [fragment["number"] for fragment in gate[:4]]
check(list(frames_of(data)) == first_four, "both ends are inclusive, of duplicates the oldest ingested is there")
check(set(frames_of(data).values()) == {20}, "fragments are whole")
_, data = clip("front-gate", "SERVER_TIMESTAMP", START, after(1))
check(list(frames_of(data)) == [gate[0]["number"]], "the server's clock selects")
_, data = clip("front-gate", "SERVER_TIMESTAMP", after(1), after(3))
check(list(frames_of(data)) == [gate[1]["number"]], "what began before is left out")
_, data = clip("yard-north", "SERVER_TIMESTAMP", START, after(3600))
expected = [fragment["number"] for fragment in truth["yard-north"][:200]]
check(list(frames_of(data)) == expected, "a clip stops at 200 fragments and does not say so")
no_fragments = "No fragments found in the stream for the clip request."
refused(
    lambda: clip("front-gate", "SERVER_TIMESTAMP", after(70), after(80)),
    "ResourceNotFoundException",
    404,
    no_fragments,
)
refused(
    lambda: clip("brief", "SERVER_TIMESTAMP", START, after(60)),
    "InvalidArgumentException",
    400,
    "is outside of the stream retention period.",
)
refused(lambda: clip("unkept", "SERVER_TIMESTAMP", START, after(60)), "NoDataRetentionException", 400)
refused(lambda: clip("yard-north", "SERVER_TIMESTAMP", START, START), "InvalidArgumentException", 400)
refused(lambda: clip("yard-north", "SERVER_TIMESTAMP", START, after(86_401)), "InvalidArgumentException", 400)
tomorrow = datetime.now(timezone.utc) + timedelta(hours=1)
refused(
    lambda: clip("yard-north", "SERVER_TIMESTAMP", tomorrow - timedelta(hours=2), tomorrow),
    "InvalidArgumentException",
    400,
)
refused(
    lambda: clip("closed", "SERVER_TIMESTAMP", START, after(60)),
    "AccessDeniedException",
    403,
    "kinesisvideo:GetClip",
)
refused(
    lambda: data_client("yard-north", "LIST_FRAGMENTS").get_clip(
        StreamName="yard-north", ClipFragmentSelector=selector("SERVER_TIMESTAMP", START, after(6))
    ),
    "NotAuthorizedException",
    401,
)
refused(
    lambda: clip("busy", "SERVER_TIMESTAMP", START, after(60)), "ClientLimitExceededException", 400, "Rate exceeded"
)
moving = data_client("moving", "LIST_FRAGMENTS")
for _ in range(2):
    refused(lambda: moving.list_fragments(StreamName="moving"), "NotAuthorizedException", 401)
brief_moment = selector("SERVER_TIMESTAMP", START, after(6))
fresh = data_client("moving", "LIST_FRAGMENTS").list_fragments(StreamName="moving", FragmentSelector=brief_moment)
check(len(fresh["Fragments"]) > 0, "a new endpoint serves")


# --- the AWS CLI
def aws(*arguments, fails=False):
    done = subprocess.run([AWS, *arguments], capture_output=True, text=True, check=False)
    check((done.returncode != 0) == fails, f"{arguments}: {done.returncode} {done.stdout}{done.stderr}")
    return done.stderr if fails else json.loads(done.stdout)


def aws_endpoint(stream, api):
    found = aws(
        *("kinesisvideo", "get-data-endpoint", "--endpoint-url", ENDPOINT),
        *("--stream-name", stream, "--api-name", api, "--output", "json"),
    )
    return found["DataEndpoint"]


def aws_selector(kind, start, end):
    times = f"TimestampRange={{StartTimestamp={start},EndTimestamp={end}}}"
    return f"FragmentSelectorType={kind},{times}"


def aws_clip(stream, start, end, **settings):
    return aws(
        *("kinesis-video-archived-media", "get-clip", "--endpoint-url", aws_endpoint(stream, "GET_CLIP")),
        *("--stream-name", stream, "--output", "json"),
        *("--clip-fragment-selector", aws_selector("PRODUCER_TIMESTAMP", start, end), "clip.mp4"),
        **settings,
    )


listed = aws(
    *("kinesis-video-archived-media", "list-fragments"),
    *("--endpoint-url", aws_endpoint("front-gate", "LIST_FRAGMENTS"), "--stream-name", "front-gate"),
    *("--fragment-selector", aws_selector("SERVER_TIMESTAMP", "2024-03-01T00:00:00Z", "2024-03-01T01:00:00Z")),
    *("--page-size", "20", "--output", "json"),
)
check(
    sorted(fragment["FragmentNumber"] for fragment in listed["Fragments"])
    == [fragment["number"] for fragment in gate],
    "the CLI lists everything exactly once",
)
for fragment in listed["Fragments"]:
    # The CLI prints numbers of seconds or ISO 8601, depending on its version.
    stamp = fragment["ServerTimestamp"]
    stamp = round(stamp * 1000) if isinstance(stamp, float) else ms(datetime.fromisoformat(stamp))
    check(stamp == by_number[fragment["FragmentNumber"]]["server_ms"], "the CLI shows milliseconds")
check(aws_clip("front-gate", "2024-03-01T00:00:00Z", "2024-03-01T00:00:06Z")["ContentType"] == "video/mp4", "a clip")
with open("clip.mp4", "rb") as file:
    check(list(frames_of(file.read())) == first_four, "the CLI's clip holds its fragments")
said = aws_clip("front-gate", "2024-03-01T00:01:10Z", "2024-03-01T00:01:20Z", fails=True)
check("ResourceNotFoundException" in said and no_fragments in said, said)
said = aws_clip("busy", "2024-03-01T00:00:00Z", "2024-03-01T00:00:06Z", fails=True)
check("ClientLimitExceededException" in said, said)
said = aws_clip("closed", "2024-03-01T00:00:00Z", "2024-03-01T00:00:06Z", fails=True)
check("AccessDeniedException" in said and "kinesisvideo:GetClip" in said, said)

print(f"{checks} checks passed")
