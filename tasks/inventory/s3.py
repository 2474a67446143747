"""Buckets of an object store that speaks S3, and the Iceberg tables that lie in them."""

from __future__ import annotations

import time
from typing import Any

from gameday.errors import ConfigError, DriverError
from gameday.stack.init.seen import Bucket, ObjectStore
from gameday.system import address
from gameday.system.http import Unanswered, ask

__all__ = ["s3"]

ASK_WITHIN_S = 4.0
"""For one answer."""

LIST_WITHIN_S = 15.0
"""For the listings of all buckets."""

BUCKETS_MAX = 20
PAGES_MAX = 10
"""Of a thousand objects, of each bucket."""

METADATA = ".metadata.json"
"""How the file of an Iceberg table's ends that says what it is; in its folder `metadata`."""


def s3(url: str) -> tuple[ObjectStore, list[str]]:
    """What is there, and what could not be looked at. url: http://KEY:SECRET@host:port. Raises DriverError where it
    does not answer, or refuses."""
    from botocore.exceptions import BotoCoreError, ClientError

    at = address.of(url)
    scheme, _, rest = url.partition("://")
    endpoint = f"{scheme}://{rest.rpartition('@')[2].rstrip('/')}"
    if at.user is None or at.password is None:
        raise ConfigError(f"--s3 {endpoint}: who asks? Remedy: http://KEY:SECRET@host:port")
    troubles: list[str] = []
    try:
        status = ask("GET", f"{endpoint}/", ASK_WITHIN_S).status
        client = _client(endpoint, at.user, at.password)
        names = [one["Name"] for one in client.list_buckets().get("Buckets", [])]
    except (Unanswered, BotoCoreError, ClientError) as e:
        raise DriverError(f"S3 at {endpoint}: {e}", definite=True) from e
    buckets: list[Bucket] = []
    until = time.monotonic() + LIST_WITHIN_S
    for name in names[:BUCKETS_MAX]:
        try:
            buckets.append(_bucket(client, name, until))
        except (BotoCoreError, ClientError) as e:
            troubles.append(f"S3 at {endpoint}: bucket {name}: {e}")
    return ObjectStore(endpoint, status, buckets, len(names) - len(names[:BUCKETS_MAX])), troubles


def _bucket(client: Any, name: str, until: float) -> Bucket:
    objects, more = 0, True
    token: dict[str, str] = {}
    tables: dict[str, None] = {}
    for _ in range(PAGES_MAX):
        if time.monotonic() >= until:
            break
        page = client.list_objects_v2(Bucket=name, MaxKeys=1000, **token)
        keys = [one["Key"] for one in page.get("Contents", [])]
        objects += len(keys)
        tables |= {
            key.rpartition("/metadata/")[0]: None for key in keys if key.endswith(METADATA) and "/metadata/" in key
        }
        more = bool(page.get("IsTruncated"))
        if not more:
            break
        token = {"ContinuationToken": page["NextContinuationToken"]}
    return Bucket(name, objects, not more, sorted(f"s3://{name}/{place}" for place in tables))


def _client(endpoint: str, key: str, secret: str) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        region_name="us-east-1",
        config=Config(connect_timeout=ASK_WITHIN_S, read_timeout=ASK_WITHIN_S, retries={"total_max_attempts": 1}),
    )
