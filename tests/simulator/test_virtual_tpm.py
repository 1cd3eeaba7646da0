"""The virtual TPM: its keys, what it takes from a blob, and that it takes nothing else."""

import base64
import hashlib
import hmac
import os
import stat

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode

from enrollments.simulator.tpm_protection import (
    BindingWrong,
    CredentialIntegrityWrong,
    CredentialMalformed,
    CredentialSeedUnreadable,
    DuplicateSeedUnreadable,
    InnerIntegrityWrong,
    OuterIntegrityWrong,
    SensitiveMalformed,
    aes_cfb_decrypt,
    kdf_a,
)
from enrollments.simulator.tpm_structures import (
    BlobMalformed,
    PublicAreaUnsuitable,
    TpmRefusal,
    name_of,
)
from enrollments.simulator.virtual_tpm import NoKeyYet, TpmStateUnusable, VirtualTpm
from tests.simulator.tpm_blobs import ITEMS, SIZES, b2, blob_for

TEXT = b"0ne0000ABCD%2Fregistrations%2Fpump-1\n1795439729"


@pytest.fixture(scope="module")
def tpm() -> VirtualTpm:
    return VirtualTpm.new()


@pytest.fixture(scope="module")
def other_tpm() -> VirtualTpm:
    return VirtualTpm.new()


def test_the_public_areas_are_those_of_the_default_templates(tpm):
    ek, srk = tpm.endorsement_key, tpm.storage_root_key

    assert (len(ek), len(srk)) == (316, 284)
    assert base64.b64encode(ek).startswith(b"AToAAQALAAMAsgAgg3GXZ0SE")
    assert base64.b64encode(srk).startswith(b"ARoAAQALAAMEcgAAAAYAgABDABAI")
    assert ek[:60].hex() == (
        "013a0001000b000300b20020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa"
        "00060080004300100800000000000100"
    )
    assert srk[:28].hex() == "011a0001000b00030472000000060080004300100800000000000100"
    assert ek[-256:] == tpm.ek.public_key().public_numbers().n.to_bytes(256, "big")
    assert name_of(srk[2:]) == b"\x00\x0b" + hashlib.sha256(srk[2:]).digest()


@pytest.mark.parametrize("bits", [128, 256, 384])
def test_a_key_derivation_is_that_of_sp_800_108_in_counter_mode(bits):
    """KDFa is KBKDF with HMAC: counter and length of 32 bits, and a zero between label and context."""
    reference = KBKDFHMAC(
        algorithm=SHA256(),
        mode=Mode.CounterMode,
        length=bits // 8,
        rlen=4,
        llen=4,
        location=CounterLocation.BeforeFixed,
        label=b"STORAGE",
        context=b"context u" + b"context v",
        fixed=None,
    )

    assert kdf_a(b"k" * 32, b"STORAGE\0", b"context u", b"context v", bits) == reference.derive(b"k" * 32)


def test_the_cipher_is_aes_128_in_cfb_mode_over_whole_blocks():
    """NIST SP 800-38A, F.3.14 (CFB128-AES128.Decrypt): its second block, which no initial vector touches."""
    key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    encrypted = bytes.fromhex("3b3fd92eb72dad20333449f8e83cfb4a" + "c8a64537a0b3a93fcde3cdad9f1ce58b")

    decrypted = aes_cfb_decrypt(key, encrypted)

    assert decrypted[16:].hex() == "ae2d8a571e03ac9c9eb76fac45af8e51"


def test_a_blob_has_the_sizes_of_the_protocol(tpm):
    items = blob_for(tpm).items()

    assert tuple(map(len, items)) == SIZES
    assert len(blob_for(tpm, unused=bytes(154)).octets()) == 920


@pytest.mark.parametrize("unused", [b"", bytes(154)], ids=["empty", "as long as Azure's"])
def test_the_key_of_a_blob_signs(tpm, unused):
    blob = blob_for(tpm, unused=unused)

    tpm.activate(blob.octets())

    assert tpm.sign(TEXT) == hmac.digest(blob.key, TEXT, "sha256")


@pytest.mark.parametrize("length", [1, 16, 32, 64])
def test_keys_of_other_lengths_are_taken_too(tpm, length):
    blob = blob_for(tpm, key=os.urandom(length))

    tpm.activate(blob.octets())

    assert tpm.sign(TEXT) == hmac.digest(blob.key, TEXT, "sha256")


def test_an_authorization_value_of_zeros_is_an_empty_one(tpm):
    blob = blob_for(tpm, authorization=bytes(32))

    tpm.activate(blob.octets())

    assert tpm.sign(TEXT) == hmac.digest(blob.key, TEXT, "sha256")


def test_a_second_activation_replaces_the_first_key(tpm):
    first, second = blob_for(tpm), blob_for(tpm)
    tpm.activate(first.octets())

    tpm.activate(second.octets())

    assert tpm.sign(TEXT) == hmac.digest(second.key, TEXT, "sha256")


def test_a_refused_blob_leaves_the_earlier_key(tpm):
    first = blob_for(tpm)
    tpm.activate(first.octets())

    with pytest.raises(BindingWrong):
        tpm.activate(blob_for(tpm, unique=bytes(32)).octets())

    assert tpm.sign(TEXT) == hmac.digest(first.key, TEXT, "sha256")


def test_without_a_key_nothing_is_signed():
    with pytest.raises(NoKeyYet, match="0x81000100"):
        VirtualTpm.new().sign(TEXT)


@pytest.mark.parametrize(
    ("wrong", "refusal"),
    [
        pytest.param({"label_1": b"IDENTITY"}, CredentialSeedUnreadable, id="label without its zero"),
        pytest.param({"label_1": b"DUPLICATE\0"}, CredentialSeedUnreadable, id="the other label"),
        pytest.param({"seed_1": bytes(16)}, CredentialSeedUnreadable, id="a short seed"),
        pytest.param({"credential_for": bytes(34)}, CredentialIntegrityWrong, id="for another object"),
        pytest.param({"inner": bytes(32)}, CredentialMalformed, id="a wrapping key of 256 bits"),
        pytest.param(
            {"inner": bytes(33), "wrapped_with": bytes(16)}, CredentialMalformed, id="longer than a digest"
        ),
        pytest.param({"credential": bytes(18)}, CredentialMalformed, id="a size that does not fit"),
        pytest.param({"credential": b"\0"}, CredentialMalformed, id="no size at all"),
        pytest.param(
            {"credential": b2(bytes(16)) + b"\0", "wrapped_with": bytes(16)},
            CredentialMalformed,
            id="more than a credential",
        ),
        pytest.param({"label_2": b"DUPLICATE"}, DuplicateSeedUnreadable, id="duplicate label without zero"),
        pytest.param({"seed_2": bytes(31)}, DuplicateSeedUnreadable, id="a short duplicate seed"),
        pytest.param({"wrapped_with": bytes(16)}, InnerIntegrityWrong, id="another inner key"),
        pytest.param({"digest": bytes(32)}, InnerIntegrityWrong, id="another inner digest"),
        pytest.param({"digest": bytes(20)}, InnerIntegrityWrong, id="an inner digest of SHA-1"),
        pytest.param({"sensitive_kind": b"\0\1"}, SensitiveMalformed, id="the sensitive area of an RSA key"),
        pytest.param({"authorization": b"secret"}, SensitiveMalformed, id="an authorization value"),
        pytest.param({"authorization": bytes(33)}, SensitiveMalformed, id="too long an authorization value"),
        pytest.param({"after_sensitive": b"\0"}, SensitiveMalformed, id="more than the sensitive area"),
        pytest.param({"after_tpm2b_sensitive": b"\0"}, SensitiveMalformed, id="more than its TPM2B"),
        pytest.param({"key": b"", "unique": bytes(32)}, SensitiveMalformed, id="an empty key"),
        pytest.param({"key": bytes(65)}, SensitiveMalformed, id="a key longer than a block"),
        pytest.param({"obfuscation": bytes(31)}, SensitiveMalformed, id="a short seedValue"),
        pytest.param({"unique": bytes(32)}, BindingWrong, id="unique of another key"),
        pytest.param({"kind": b"\0\1"}, PublicAreaUnsuitable, id="a public area of another kind"),
        pytest.param({"attributes": 0x00040442}, PublicAreaUnsuitable, id="bound to another TPM"),
        pytest.param({"attributes": 0x00040400}, PublicAreaUnsuitable, id="not usable with a password"),
        pytest.param({"policy": bytes(32)}, PublicAreaUnsuitable, id="under a policy"),
        pytest.param({"scheme": b"\0\5\0\4"}, PublicAreaUnsuitable, id="HMAC with SHA-1"),
        pytest.param({"scheme": b"\0\x10"}, PublicAreaUnsuitable, id="no scheme"),
        pytest.param({"unique": bytes(31)}, PublicAreaUnsuitable, id="a short unique"),
        pytest.param({"after_unique": b"\0"}, PublicAreaUnsuitable, id="more than a public area"),
    ],
)
def test_each_way_of_being_wrong_is_told_apart(tpm, wrong, refusal):
    with pytest.raises(TpmRefusal) as refused:
        tpm.activate(blob_for(tpm, **wrong).octets())

    assert type(refused.value) is refusal


def test_a_credential_longer_than_a_digest_is_refused_before_it_is_used(tpm):
    blob = blob_for(tpm, inner=bytes(33), wrapped_with=bytes(16))

    with pytest.raises(CredentialMalformed, match="at most 32"):
        tpm.activate(blob.octets())


@pytest.mark.parametrize("item", [1, 3], ids=lambda item: ITEMS[item])
@pytest.mark.parametrize("size", [0, 255, 257])
def test_a_secret_is_as_long_as_the_key_that_it_is_for(tpm, item, size):
    items = blob_for(tpm).items()
    items[item] = bytes(size)

    with pytest.raises(BlobMalformed, match="instead of 256"):
        tpm.activate(b"".join(map(b2, items)))


def test_seed_and_key_are_hashed_in_that_order(tpm):
    blob = blob_for(tpm)
    reversed_order = hashlib.sha256(blob.key + blob.obfuscation).digest()

    with pytest.raises(BindingWrong):
        tpm.activate(
            blob_for(tpm, key=blob.key, obfuscation=blob.obfuscation, unique=reversed_order).octets()
        )


@pytest.mark.parametrize(
    ("keys", "refusal"),
    [
        (("endorsement_key",), CredentialSeedUnreadable),
        (("storage_root_key",), CredentialIntegrityWrong),
        (("endorsement_key", "storage_root_key"), CredentialSeedUnreadable),
    ],
)
def test_a_blob_for_another_tpm_is_refused(tpm, other_tpm, keys, refusal):
    mixed = {name: getattr(tpm, name) for name in ("endorsement_key", "storage_root_key")}
    blob = type(blob_for(tpm))(**{**mixed, **{name: getattr(other_tpm, name) for name in keys}})

    with pytest.raises(refusal):
        tpm.activate(blob.octets())


def refused(tpm, octets: bytes) -> bool:
    try:
        tpm.activate(octets)
    except TpmRefusal:
        return True
    return False


@pytest.mark.parametrize("item", [0, 2, 4], ids=lambda item: ITEMS[item])
def test_every_damaged_bit_is_noticed(tpm, item):
    items = blob_for(tpm).items()
    admitted = []
    for bit in range(8 * len(items[item])):
        damaged = bytearray(items[item])
        damaged[bit // 8] ^= 1 << bit % 8
        if not refused(tpm, b"".join(map(b2, [*items[:item], bytes(damaged), *items[item + 1 :]]))):
            admitted.append(bit)

    assert admitted == []


@pytest.mark.parametrize("item", [1, 3], ids=lambda item: ITEMS[item])
def test_every_damaged_octet_of_a_seed_is_noticed(tpm, item):
    """One bit of each octet, another one each time: RSA makes every bit count for all of them."""
    items = blob_for(tpm).items()
    admitted = []
    for position in range(len(items[item])):
        damaged = bytearray(items[item])
        damaged[position] ^= 1 << position % 8
        if not refused(tpm, b"".join(map(b2, [*items[:item], bytes(damaged), *items[item + 1 :]]))):
            admitted.append(position)

    assert admitted == []


@pytest.mark.parametrize("item", range(6), ids=lambda item: ITEMS[item])
def test_every_damaged_size_is_noticed(tpm, item):
    octets = blob_for(tpm).octets()
    start = sum(2 + size for size in SIZES[:item])
    admitted = []
    for bit in range(16):
        damaged = bytearray(octets)
        damaged[start + bit // 8] ^= 1 << bit % 8
        if not refused(tpm, bytes(damaged)):
            admitted.append(bit)

    assert admitted == []


def test_a_blob_that_ends_early_or_goes_on_is_malformed(tpm):
    octets = blob_for(tpm).octets()

    for wrong in (*(octets[:end] for end in range(0, len(octets), 7)), octets + b"\0"):
        with pytest.raises(BlobMalformed):
            tpm.activate(wrong)


@pytest.mark.parametrize(
    ("item", "refusal"),
    [(0, CredentialIntegrityWrong), (2, OuterIntegrityWrong)],
    ids=["credential", "duplicate"],
)
def test_damage_is_found_before_anything_is_decrypted(tpm, item, refusal):
    items = blob_for(tpm).items()
    items[item] = items[item][:-1] + bytes([items[item][-1] ^ 1])

    with pytest.raises(refusal):
        tpm.activate(b"".join(map(b2, items)))


def test_items_of_two_blobs_do_not_mix(tpm):
    one, other = blob_for(tpm).items(), blob_for(tpm).items()

    for item in range(5):
        assert refused(tpm, b"".join(map(b2, [*one[:item], other[item], *one[item + 1 :]]))), ITEMS[item]


def test_a_kept_tpm_is_itself_again_and_its_keys_are_for_its_owner_alone(tmp_path):
    first = VirtualTpm.kept_in(tmp_path, "pump-1")

    again, other = VirtualTpm.kept_in(tmp_path, "pump-1"), VirtualTpm.kept_in(tmp_path, "pump-2")

    assert again.endorsement_key == first.endorsement_key != other.endorsement_key
    assert again.storage_root_key == first.storage_root_key != first.endorsement_key
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize("content", [b"", b"not a key"])
def test_a_key_file_that_is_none_is_named(tmp_path, content):
    (tmp_path / "pump-1.tpm-ek.key").write_bytes(content)

    with pytest.raises(TpmStateUnusable, match=r"pump-1\.tpm-ek\.key"):
        VirtualTpm.kept_in(tmp_path, "pump-1")


def test_keys_are_not_shown_when_a_tpm_is_printed(tpm):
    tpm.activate(blob_for(tpm).octets())

    assert "PrivateKey" not in repr(tpm)
    assert "persistent" not in repr(tpm)
