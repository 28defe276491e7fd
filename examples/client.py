#!/usr/bin/env python3
"""Converts a file on an agent: sends it, waits, fetches the result.

usage: client.py FILE PRESET RESULT   (DMC_DATA: the agent's data directory)
"""
import http.client
import json
import os
import pathlib
import shutil
import sys
import time
import uuid

source, preset, result = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
data = pathlib.Path(os.environ.get("DMC_DATA", pathlib.Path.home() / ".local/share/dmc"))
address = json.loads((data / "agent.json").read_text())["api"]
token = (data / "api.token").read_text()


def call(method, path, body=None, headers={}):
    connection = http.client.HTTPConnection(address)
    headers = {"Authorization": f"Bearer {token}", **headers}
    connection.request(method, "/api/v1" + path, body, headers)
    answer = connection.getresponse()
    if answer.status >= 400:
        sys.exit(json.load(answer)["detail"])
    return answer


def form(fields, file, boundary):
    """A multipart form, piece by piece: a film does not fit into memory."""
    for name, value in fields.items():
        yield f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
    name = file.name.replace('"', "%22")
    yield f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
    with file.open("rb") as opened:
        while piece := opened.read(1 << 20):
            yield piece
    yield f"\r\n--{boundary}--\r\n".encode()


boundary = uuid.uuid4().hex
fields = {"client_id": "python-example", "conversion_type": preset}
kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
item = json.load(call("POST", "/item", form(fields, source, boundary), kind))
place = f"/item/{item['client_id']}/{item['item_id']}"
while item["status"] in ("to_do", "in_progress"):
    time.sleep(1)
    item = json.load(call("GET", place))
    print(f"{item['progress']:.0%} {item['status']}", file=sys.stderr)
if item["status"] != "finished_successful":
    sys.exit("; ".join(item["errors"]) or item["status"])
with open(result, "wb") as file:
    shutil.copyfileobj(call("GET", place + "/file"), file)
call("DELETE", place)
