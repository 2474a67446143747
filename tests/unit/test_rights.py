"""The right to write, taken and given back by a bucket's policy: an operator's own statements are never ours."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from gameday.drivers.s3 import NO_POLICY, SID, Rights
from gameday.errors import GamedayError
from gameday.faults.write_denied import WriteDenied

ME = "arn:aws:iam::000000000000:user/offload"
AUDIT = {"Sid": "audit", "Effect": "Deny", "Principal": "*", "Action": "s3:DeleteBucket", "Resource": "*"}
READ = {**AUDIT, "Sid": "read", "Action": "s3:GetObject"}
ANOTHERS = {**AUDIT, "Sid": SID, "Principal": {"AWS": "arn:aws:iam::000000000000:user/other"}}


class Admin:
    """A bucket's policy, as its administrator reaches it."""

    def __init__(self, policy: str | None) -> None:
        self.policy = policy

    def get_bucket_policy(self, Bucket: str) -> dict[str, Any]:
        if self.policy is None:
            raise ClientError({"Error": {"Code": NO_POLICY}}, "GetBucketPolicy")
        return {"Policy": self.policy}

    def put_bucket_policy(self, Bucket: str, Policy: str) -> None:
        assert json.loads(Policy)["Statement"], "S3 refuses a policy without statements"
        self.policy = Policy

    def delete_bucket_policy(self, Bucket: str) -> None:
        self.policy = None

    @property
    def statements(self) -> list[Any]:
        return list(json.loads(self.policy)["Statement"]) if self.policy else []

    def put(self, *statements: Any) -> None:
        self.policy = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def bucket(policy: str | None = None) -> tuple[Rights, Admin]:
    rights, admin = Rights("http://127.0.0.1:1", "lake", "k", "s", ME, "u", "v"), Admin(policy)
    rights.__dict__["_admin"] = admin
    return rights, admin


def policy_of(*statements: Any) -> str:
    """Spaced as no program of ours would."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)}, indent=3)


@pytest.mark.parametrize("before", [None, policy_of(AUDIT), policy_of(AUDIT, READ)])
def test_a_policy_that_nobody_changed_is_given_back_to_the_letter(before: str | None) -> None:
    """Twice as well as once, and when the act was never reached."""
    rights, admin = bucket(before)
    rights.allow_writes(before)
    assert admin.policy == before
    for _ in range(2):
        rights.deny_writes()
    assert rights.denied()
    assert [one["Sid"] for one in admin.statements].count(SID) == 1
    for _ in range(2):
        rights.allow_writes(before)
    assert (rights.denied(), admin.policy) == (False, before)


def test_what_an_operator_put_during_the_test_stays() -> None:
    """Also where there was no policy before; what he took away stays away."""
    for before, kept in ((None, [AUDIT]), (policy_of(AUDIT), [AUDIT, READ]), (policy_of(AUDIT, READ), [READ])):
        rights, admin = bucket(before)
        rights.deny_writes()
        ours = next(one for one in admin.statements if one["Sid"] == SID)
        admin.put(*kept, ours)
        for _ in range(2):
            rights.allow_writes(before)
            assert (admin.statements, rights.denied()) == (kept, False)


def test_what_an_operator_put_between_note_and_act_stays() -> None:
    """The act adds to what is there, not to what was noted."""
    rights, admin = bucket(None)
    admin.put(READ)
    rights.deny_writes()
    rights.allow_writes(None)
    assert admin.statements == [READ]


def test_a_policy_of_which_only_ours_is_left_is_deleted() -> None:
    """An operator has taken his own away, and S3 has no empty policy; one that he deleted whole is not put again."""
    rights, admin = bucket(policy_of(AUDIT))
    rights.deny_writes()
    admin.put(next(one for one in admin.statements if one["Sid"] == SID))
    rights.allow_writes(policy_of(AUDIT))
    assert admin.policy is None
    rights.deny_writes()
    admin.policy = None
    rights.allow_writes(policy_of(AUDIT))
    assert admin.policy is None


def test_another_users_denial_is_not_ours() -> None:
    """Two stacks may share a bucket; a policy may have a single statement without a list."""
    single = json.dumps({"Version": "2012-10-17", "Statement": ANOTHERS})
    rights, admin = bucket(single)
    assert not rights.denied()
    rights.deny_writes()
    assert rights.denied()
    rights.allow_writes(single)
    assert admin.policy == single


@pytest.mark.parametrize(("read", "write"), [(200, 403), (403, 403), (200, 500)])
def test_a_right_that_the_user_has_not_got_is_not_withdrawn(read: int, write: int) -> None:
    """Its refusals would prove the act, whatever that did."""
    met = {"read": read, "write": write}
    store = SimpleNamespace(denied=lambda: False, policy=lambda: None, refusals=lambda: met)
    with pytest.raises(GamedayError, match=f"reads answer {read}, its writes {write} as it is"):
        WriteDenied("s3").before(SimpleNamespace(rights=lambda role: store))
