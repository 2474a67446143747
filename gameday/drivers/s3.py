"""An object store that speaks S3: whether it answers, and who may write into a bucket.

Its client is imported when the store is asked for the first time: who only asks what a component offers does without.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import Any

from gameday.errors import DriverError
from gameday.stack.config import Http
from gameday.system.tls import refused

__all__ = ["Rights"]

if find_spec("boto3") is None:  # said now, when stack.py names the remedy, not in the middle of a run
    raise ModuleNotFoundError("No module named 'boto3'", name="boto3")

CONNECT_WITHIN_S, ANSWER_WITHIN_S = 1.0, 3.0
NO_POLICY = "NoSuchBucketPolicy"
SID = "gameday-no-writes"
TOUCH = "gameday/touch"
"""The object that is written to learn whether the user may; it lies outside of every table."""


@dataclass(frozen=True)
class Rights:
    """What one user may do in one bucket, by the bucket's policy.

    key, secret: the administrator's. principal: the user as policies name it. user_key, user_secret: its own, to prove
    from its side what it may do. ca: the PEM file of who signed the endpoint's certificate; "": whom the client trusts.
    """

    endpoint: Http
    bucket: str
    key: str
    secret: str
    principal: str
    user_key: str
    user_secret: str
    region: str = "us-east-1"
    ca: str = ""

    def policy(self) -> str | None:
        """The bucket's policy as JSON; None: it has none."""
        from botocore.exceptions import ClientError

        with self._errors("get the bucket's policy"):
            try:
                return str(self._admin.get_bucket_policy(Bucket=self.bucket)["Policy"])
            except ClientError as e:
                if e.response["Error"]["Code"] == NO_POLICY:
                    return None
                raise

    def deny_writes(self) -> None:
        """Take the user's right to write, besides what the policy says now. Idempotent."""
        document = _document(self.policy())
        deny = {
            "Sid": SID,
            "Effect": "Deny",
            "Principal": {"AWS": self.principal},
            "Action": ["s3:PutObject", "s3:DeleteObject"],
            "Resource": [f"arn:aws:s3:::{self.bucket}/*"],
        }
        self._put(json.dumps({**document, "Statement": [*self._others(document), deny]}))

    def allow_writes(self, before: str | None) -> None:
        """Take back what `deny_writes` did, and nothing else: what others have made of the policy meanwhile stays.

        before: the policy as it was. It is given back to the letter where nobody changed it. Idempotent.
        """
        now = self.policy()
        document = _document(now)
        others = self._others(document)
        if now is None or others == document["Statement"]:
            return  # there is nothing of ours in it
        was = _document(before)
        if others == was["Statement"]:
            self._put(before) if before is not None else self._delete()
        elif others:
            self._put(json.dumps({**document, "Statement": others}))
        else:
            self._delete()  # a policy without statements is none, and refused

    def denied(self) -> bool:
        """Whether the policy takes the right."""
        document = _document(self.policy())
        return self._others(document) != document["Statement"]

    def _others(self, document: Mapping[str, Any]) -> list[Any]:
        """The policy's statements without ours."""
        return [
            one
            for one in document["Statement"]
            if one.get("Sid") != SID or self.principal not in json.dumps(one.get("Principal"))
        ]

    def _put(self, policy: str) -> None:
        with self._errors("put the bucket's policy"):
            self._admin.put_bucket_policy(Bucket=self.bucket, Policy=policy)

    def _delete(self) -> None:
        from botocore.exceptions import ClientError

        with self._errors("delete the bucket's policy"):
            try:
                self._admin.delete_bucket_policy(Bucket=self.bucket)
            except ClientError as e:
                if e.response["Error"]["Code"] != NO_POLICY:
                    raise

    def refusals(self) -> Mapping[str, int]:
        """What the user itself meets now: HTTP status of a "read" (a list) and of a "write" (a small object)."""
        return {
            "read": self._status(lambda s3: s3.list_objects_v2(Bucket=self.bucket, MaxKeys=1)),
            "write": self._status(lambda s3: s3.put_object(Bucket=self.bucket, Key=TOUCH, Body=b"")),
        }

    def _status(self, ask: Any) -> int:
        from botocore.exceptions import ClientError

        with self._errors("ask as its user"):
            try:
                return int(ask(self._user)["ResponseMetadata"]["HTTPStatusCode"])
            except ClientError as e:
                return int(e.response["ResponseMetadata"]["HTTPStatusCode"])

    @cached_property
    def _admin(self) -> Any:
        return self._client(self.key, self.secret)

    @cached_property
    def _user(self) -> Any:
        return self._client(self.user_key, self.user_secret)

    def _client(self, key: str, secret: str) -> Any:
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=CONNECT_WITHIN_S,
            read_timeout=ANSWER_WITHIN_S,
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
        )
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            region_name=self.region,
            config=config,
            verify=self.ca or None,
        )

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as e:
            code = e.response["ResponseMetadata"].get("HTTPStatusCode", 0)
            definite = http.client.BAD_REQUEST <= code < http.client.INTERNAL_SERVER_ERROR
            raise DriverError(f"S3 at {self.endpoint}: can't {what}: {e}", definite=definite) from e
        except (BotoCoreError, OSError) as e:
            raise DriverError(f"S3 at {self.endpoint}: can't {what}: {refused(e) or e}", definite=False) from e


def _document(policy: str | None) -> dict[str, Any]:
    """A policy's document, its statements as a list; an empty one where there is no policy."""
    document: dict[str, Any] = json.loads(policy) if policy else {"Version": "2012-10-17"}
    statements = document.get("Statement", [])
    return {**document, "Statement": [statements] if isinstance(statements, dict) else list(statements)}
