"""Asks an object store that speaks S3 whether it answers, and who may write into a bucket.

The client is imported when the store is asked for the first time: asking what a component offers doesn't need it.
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

if find_spec("boto3") is None:  # raised now, while the stack is read and the remedy is named, not during a run
    raise ModuleNotFoundError("No module named 'boto3'", name="boto3")

CONNECT_WITHIN_S, ANSWER_WITHIN_S = 1.0, 3.0
NO_POLICY = "NoSuchBucketPolicy"
SID = "gameday-no-writes"
TOUCH = "gameday/touch"
"""The object that is written to see whether the user may; it is in no table."""


@dataclass(frozen=True)
class Rights:
    """What one user may do in one bucket, by the bucket's policy.

    key, secret: the administrator's. principal: the user as policies name it. user_key, user_secret: the user's, to
    prove what it may do. ca: the PEM file of the CA that signed the endpoint's certificate; "": the client's own CAs.
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
        """Return the bucket's policy as JSON; None: it has none."""
        from botocore.exceptions import ClientError

        with self._errors("get the bucket's policy"):
            try:
                return str(self._admin.get_bucket_policy(Bucket=self.bucket)["Policy"])
            except ClientError as e:
                if e.response["Error"]["Code"] == NO_POLICY:
                    return None
                raise

    def deny_writes(self) -> None:
        """Add a statement to the policy that denies the user's writes. Idempotent."""
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
        """Remove what `deny_writes` added, and nothing else: what others have changed in the policy meanwhile stays.

        before: the policy as it was. It is restored exactly if nobody changed it. Idempotent.
        """
        now = self.policy()
        document = _document(now)
        others = self._others(document)
        if now is None or others == document["Statement"]:
            return  # our statement is not in it
        was = _document(before)
        if others == was["Statement"]:
            self._put(before) if before is not None else self._delete()
        elif others:
            self._put(json.dumps({**document, "Statement": others}))
        else:
            self._delete()  # a policy without statements would be refused

    def denied(self) -> bool:
        """Whether the policy denies the user's writes."""
        document = _document(self.policy())
        return self._others(document) != document["Statement"]

    def _others(self, document: Mapping[str, Any]) -> list[Any]:
        """Return the policy's statements without ours."""
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
        """Return the HTTP statuses that the user gets now for a "read" (a list) and a "write" (a small object)."""
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
    """Return a policy's document with its statements as a list; an empty one if there is no policy."""
    document: dict[str, Any] = json.loads(policy) if policy else {"Version": "2012-10-17"}
    statements = document.get("Statement", [])
    return {**document, "Statement": [statements] if isinstance(statements, dict) else list(statements)}
