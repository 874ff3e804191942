"""What editors say of job files: Taplo, which their TOML plugins are made of, and Python's jsonschema.

    editors.py SCHEMA TAPLO FILE...

Prints a line for each file: who refuses it, or "accepted".
"""

import datetime
import json
import pathlib
import subprocess
import sys

import jsonschema

try:
    import tomllib
except ModuleNotFoundError:
    import tomli as tomllib


def as_json(value):
    """The document as an editor hands it to the schema: date-times are text."""
    if isinstance(value, dict):
        return {key: as_json(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [as_json(inner) for inner in value]
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return value


def main():
    schema_file, taplo, *files = sys.argv[1:]
    schema = json.loads(pathlib.Path(schema_file).read_text())
    validator = jsonschema.Draft7Validator(schema)
    validator.check_schema(schema)
    uri = pathlib.Path(schema_file).resolve().as_uri()
    for file in files:
        refused = []
        try:
            document = tomllib.loads(pathlib.Path(file).read_bytes().decode("utf-8-sig").replace("\r\n", "\n"))
            if not validator.is_valid(as_json(document)):
                refused.append("jsonschema")
        except tomllib.TOMLDecodeError:
            refused.append("jsonschema")
        lint = subprocess.run(
            [taplo, "lint", "--no-auto-config", "--schema", uri, file], capture_output=True, text=True, check=False
        )
        if lint.returncode != 0:
            refused.append("taplo")
        print(pathlib.Path(file).name, "refused by " + " and ".join(refused) if refused else "accepted")


main()
