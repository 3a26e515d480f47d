"""Verify an export of format 2 from stdin with a JCS library and nothing of this project."""

import base64
import hashlib
import json
import sys
from typing import Any

import rfc8785

ERASABLE = ("ip", "user_agent", "session_id")
HIDDEN = {"record_sha256", *ERASABLE, *(f"{name}_salt" for name in ERASABLE)}
BINARY = {f"{name}_{part}" for name in ERASABLE for part in ("salt", "commitment")}
BINARY |= {"record_id", "record_sha256", "policy_sha256", "body_digest"}


def problems(export: dict[str, Any]) -> list[str]:
    found = ["records"] if export["records_count"] != len(export["records"]) else []
    for entry in export["records"]:
        record, policy = entry["record"], entry["policy"]
        text = export["texts"].get(record["policy_sha256"], {"encoding": "", "content": ""})
        decode = base64.b64decode if text["encoding"] == "base64" else str.encode
        hashed = rfc8785.dumps({name: record[name] for name in record if name not in HIDDEN})
        holds = {
            "record": hashlib.sha256(hashed).hexdigest() == record["record_sha256"],
            "types": set(entry["binary"]) == BINARY & record.keys(),
            "user": record["user_id"] == export["user_id"],
            "policy": record["policy_version"] == f"{policy['policy_id']}#{policy['version']}",
            "published": record["policy_sha256"] in json.dumps(policy),
            "text": hashlib.sha256(decode(text["content"])).hexdigest() == record["policy_sha256"],
        }
        for name in set(ERASABLE) & record.keys():
            salted = bytes.fromhex(record[f"{name}_salt"][:32]) + f"{name}\0{record[name]}".encode()
            holds[name] = hashlib.sha256(salted).hexdigest() == record[f"{name}_commitment"]
        found += [name for name in holds if not holds[name]]
    return found


if __name__ == "__main__":
    sys.exit("; ".join(problems(json.load(sys.stdin))) or 0)
