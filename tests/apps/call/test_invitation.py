import json
import zlib
from base64 import urlsafe_b64encode
from dataclasses import replace

import pytest

from kinecast.apps.call import memberships
from kinecast.apps.call.invitation import HandText, Invitation, Seal, check_server, derive, new_secret
from kinecast.errors import KinecastError


def test_secrets_have_192_bits_and_are_never_the_same():
    found = {new_secret() for _ in range(1000)}
    assert len(found) == 1000 and {len(secret) for secret in found} == {32}


def test_an_invitation_comes_back_from_its_text():
    invitation = Invitation("https://host.example:8710", new_secret())
    assert Invitation.parse(f"  {invitation}\n") == invitation
    assert invitation.secret in str(invitation).partition("#")[2]  # the fragment, which is sent to no server


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "http://host:1/",
        "http://host:1/#kinecast1.short",
        "ftp://host:1/#kinecast1." + "a" * 32,
        "http://host:99999/#kinecast1." + "a" * 32,
        "http://me:pass@host/#kinecast1." + "a" * 32,
        "http:///#kinecast1." + "a" * 32,
        "http://host:1/#kinecast1." + "a" * 31 + "!",
        "http://host:1/#kinecast1." + "a" * 5000,
    ],
)
def test_what_is_no_invitation_is_refused(text):
    with pytest.raises(KinecastError):
        Invitation.parse(text)


def test_servers_are_addresses_without_paths():
    assert check_server("http://127.0.0.1:8710/some/path?x#y") == "http://127.0.0.1:8710"
    with pytest.raises(KinecastError, match="expected http"):
        check_server("127.0.0.1:8710")


def test_only_the_other_side_of_the_same_room_opens_a_seal():
    secret = new_secret()
    host, guest = Seal(secret, "host"), Seal(secret, "guest")
    sealed = host.close({"type": "offer", "sdp": "v=0"})
    assert guest.open(sealed) == {"type": "offer", "sdp": "v=0"}
    for stranger in (host, Seal(new_secret(), "guest")):  # one's own words played back; another room
        with pytest.raises(KinecastError, match="encrypted by the other side"):
            stranger.open(sealed)
    for damaged in (
        sealed[:-4],
        sealed[:40] + ("A" if sealed[40] != "A" else "B") + sealed[41:],
        "",
        "é",
        "A" * 30_000,
    ):
        with pytest.raises(KinecastError, match="encrypted by the other side"):
            guest.open(damaged)
    assert host.close({"a": 1}) != host.close({"a": 1})


def test_the_room_does_not_tell_the_key():
    secret = new_secret()
    assert len({derive(secret, purpose) for purpose in ("room", "seal host", "seal guest")}) == 3


def test_texts_by_hand_come_back_and_expire():
    text = HandText("offer", "v=0\r\n", new_secret(), __import__("time").time())
    assert HandText.parse(str(text)[:60] + "\n  " + str(text)[60:], "offer").sdp == "v=0\r\n"
    with pytest.raises(KinecastError, match="found an offer: swap"):
        HandText.parse(str(text), "answer")
    with pytest.raises(KinecastError, match="of the last hour"):
        HandText.parse(str(replace(text, made=text.made - 4000)), "offer")


def _hand(values) -> str:
    return "kinecast1:" + urlsafe_b64encode(zlib.compress(json.dumps(values).encode())).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "kinecast1:",
        "kinecast1:!!!!",
        "kinecast1:" + urlsafe_b64encode(b"not compressed").decode(),
        "kinecast1:" + urlsafe_b64encode(zlib.compress(b"x" * 10_000_000)).decode(),  # 10 MB in 10 kB
        "kinecast1:" + "A" * 100_000,
        _hand([1]),
        _hand({"kind": "offer"}),
        _hand({"kind": "offer", "sdp": 1, "key": "a" * 32, "made": 0}),
        _hand({"kind": "offer", "sdp": "", "key": "a" * 32, "made": "soon"}),
        _hand({"kind": "offer", "sdp": "", "key": "a" * 32, "made": None}),
    ],
)
def test_what_is_no_text_by_hand_is_refused(text):
    with pytest.raises(KinecastError, match="expected a text kinecast1"):
        HandText.parse(text, "offer")


def test_a_membership_is_kept_for_its_user_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("KINECAST_CACHE", str(tmp_path))
    secret, room = new_secret(), new_secret()
    assert memberships.load(secret) is None
    memberships.save(secret, "guest", "http://127.0.0.1:1", room, "t" * 43)
    assert memberships.load(secret) is None  # a call of this process has it
    memberships.release(secret, "guest")
    found = memberships.load(secret)
    assert found is not None and (found.role, found.secret) == ("guest", room)
    (path,) = (tmp_path / "calls").iterdir()
    assert path.stat().st_mode & 0o077 == 0 and secret not in path.read_text() + path.name
    assert memberships.load(new_secret()) is None
    path.write_text(path.read_text().replace('"pid": ', '"pid": 1, "was": '))  # of the process with number 1, alive
    assert memberships.load(secret) is None
    memberships.forget(secret, "guest")
    assert not path.exists()
