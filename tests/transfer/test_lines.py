"""What a list may look like, and one sentence for each way in which it must not."""

import io
import json
import struct
import zipfile

import pytest

from enrollments.models import ImportFormat, ImportRun
from enrollments.transfer import lines as reading
from enrollments.transfer import list_formats
from enrollments.transfer.archive import Archive, ArchiveRefused, MemberRefused
from enrollments.transfer.columns import COLUMNS, protected, unprotected
from enrollments.transfer.lines import BadLine, Record, records
from enrollments.transfer.list_formats import ListRefused
from tests.certificates import root, self_signed
from tests.transfer.lists import KEY, below, csv_of, json_lines, keys, pinned, zip_of

CSV, JSON = ImportFormat.CSV, ImportFormat.JSON_LINES


def read(content, format=JSON, archive=None):
    members = Archive(io.BytesIO(archive)) if archive is not None else None
    return list(records(io.BytesIO(content), format, members))


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        pytest.param("nothing", "not valid JSON", id="no JSON"),
        pytest.param("[]", "must be a JSON object", id="no object"),
        pytest.param(
            '{"registrationId": "a", "registrationId": "b"}', "names 'registrationId' twice", id="twice"
        ),
        pytest.param('{"registrationId": "a\\u0000"}', "NUL", id="NUL"),
        pytest.param('{"registrationId": "a\\ud800"}', "surrogate", id="lone surrogate"),
        pytest.param("[" * 10_000, "levels deep", id="nested"),
        pytest.param('{"x": 1}', "either registrationId or enrollmentGroupId", id="no name"),
        pytest.param(
            '{"registrationId": "a", "enrollmentGroupId": "b"}', "either registrationId or", id="two names"
        ),
        pytest.param('{"registrationId": 5}', "registrationId: give", id="number as name"),
        pytest.param('{"registrationId": "a b"}', "registrationId: give", id="blank in the name"),
        pytest.param(json.dumps(keys("a", operation="delete")), "deletes nothing", id="delete"),
        pytest.param(
            json.dumps(keys("a", operation="Create")), "operation must be one of", id="unknown operation"
        ),
        pytest.param(json.dumps(keys("a", operation=[])), "operation must be one of", id="list as operation"),
        pytest.param(
            json.dumps(keys("a", predecessor="b")), "only a group has one", id="predecessor of a device"
        ),
        pytest.param(json.dumps(keys("a", secretsWithheld="yes")), "true or false", id="text as boolean"),
        pytest.param(json.dumps(keys("a", x="y" * 200_000)), "more than 196608 bytes", id="too long"),
    ],
)
def test_a_bad_line_is_told_and_hinders_no_other(line, sentence):
    good, bad, other = read(json_lines(keys("before"), line, keys("behind")))

    assert isinstance(bad, BadLine)
    assert bad.line == 2
    assert sentence in bad.sentence
    assert (good.name, other.name, other.line) == ("before", "behind", 3)


@pytest.mark.parametrize(
    ("content", "format", "sentence"),
    [
        pytest.param(b"", JSON, "empty", id="empty"),
        pytest.param(b"\n \n", JSON, "empty", id="blank lines alone"),
        pytest.param(b"", CSV, "empty", id="empty CSV"),
        pytest.param(b"registrationId\n", CSV, "empty", id="CSV with columns alone"),
        pytest.param(json_lines(keys("a")).decode().encode("utf-16"), JSON, "UTF-16", id="UTF-16"),
        pytest.param(zip_of({"a": "b"}), CSV, "workbook", id="a workbook"),
        pytest.param(
            b"registrationId,colour\na,b\n", CSV, "a column that is not known, 'colour'", id="unknown column"
        ),
        pytest.param(
            b"registrationId,\na,b\n", CSV, "a column that is not known, ''", id="column without name"
        ),
        pytest.param(
            b"registrationId,REGISTRATIONID\na,b\n", CSV, "registrationId is there twice", id="column twice"
        ),
        pytest.param(b"registrationId\nm\xfcller\n", CSV, "Line 2 is not UTF-8", id="Latin-1"),
        pytest.param(b'registrationId\n"a\n' + b"x\n" * 9, CSV, "from line 2 on", id="open quote"),
        pytest.param(b'registrationId\n"a"b\n', CSV, "from line 2 on", id="text behind a quote"),
        pytest.param(
            b'registrationId\n"' + b"x\n" * 150_000, CSV, "quote that is not closed", id="long open quote"
        ),
    ],
)
def test_a_list_that_cannot_be_read_is_refused_as_a_whole(content, format, sentence):
    with pytest.raises(ListRefused) as refused:
        read(content, format)

    assert sentence in refused.value.message


@pytest.mark.parametrize(
    ("content", "format", "sentence"),
    [
        pytest.param(
            json_lines(keys("a"), '{"x" 1}'), JSON, "That is not valid JSON at column 6.", id="JSON"
        ),
        pytest.param(b'\xef\xbb\xbf{"x" 1}', JSON, "That is not valid JSON at column 6.", id="behind a mark"),
        pytest.param(
            json_lines('{"x": ' + "9" * 5000 + "}"), JSON, "That is not valid JSON.", id="nobody knows where"
        ),
        pytest.param(
            csv_of({"registrationId": "a", "attestationType": "symmetricKey", "tags": '{\n"x" 1}'}),
            CSV,
            "tags: That is not valid JSON at character 7.",
            id="a cell of two lines",
        ),
    ],
)
def test_where_json_is_wrong_is_told_within_a_line_that_has_its_number(content, format, sentence):
    (bad,) = (one for one in read(content, format) if isinstance(one, BadLine))

    assert bad.sentence == sentence


def test_all_unknown_columns_are_named_at_once():
    with pytest.raises(ListRefused) as refused:
        read(b"colour,registrationId,size,\na,b,c,d\n", CSV)

    assert refused.value.message == (
        "The list has 3 columns that are not known, 'colour', 'size' and '': rename them or take them out. The page "
        "where lists are uploaded and docs/import.md name the columns that there are."
    )


def test_however_many_columns_are_unknown_the_sentence_can_be_kept():
    header = ",".join(f"{chr(0x1F600) * 60}{number}" for number in range(500))

    with pytest.raises(ListRefused) as refused:
        read(f"{header}\n".encode(), CSV)

    assert "and 492 more: rename" in refused.value.message
    assert len(refused.value.message) <= ImportRun._meta.get_field("problem").max_length


def test_more_lines_than_allowed_are_refused(monkeypatch):
    monkeypatch.setattr(reading, "MAX_LINES", 3)

    assert len(read(json_lines(*(keys(f"p{n}") for n in range(3))))) == 3
    with pytest.raises(ListRefused, match="more than 3 lines"):
        read(json_lines(*(keys(f"p{n}") for n in range(4))))


def test_more_bytes_than_allowed_are_refused_before_they_are_read(monkeypatch):
    monkeypatch.setattr(list_formats, "MAX_LIST_BYTES", 1000)

    with pytest.raises(ListRefused, match="split it"):
        read(json_lines(keys("a"), keys("b", x="y" * 1000)))


def test_more_groups_than_allowed_are_refused(monkeypatch):
    monkeypatch.setattr(reading, "MAX_GROUPS", 1)

    with pytest.raises(ListRefused, match="more than 1 groups"):
        read(json_lines({"enrollmentGroupId": "a"}, {"enrollmentGroupId": "b"}))


def test_each_entry_has_one_line():
    first, again, group = read(json_lines(keys("Pump-1"), keys("pump-1"), {"enrollmentGroupId": "pump-1"}))

    assert isinstance(first, Record)
    assert isinstance(group, Record)
    assert "stands in line 1 already" in again.sentence


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "marked"])
def test_csv_says_the_same_as_json_lines(delimiter, mark):
    leaf, ca = self_signed("pump-1"), root("Plant")
    rows = csv_of(
        {
            "operation": "createOrUpdate",
            "registrationId": "pump-1",
            "provisioningStatus": "disabled",
            "primaryCertificate": leaf.pem,
            "deviceId": "pump",
            "iotHubs": "a.example b.example",
            "allocationPolicy": "hashed",
            "updateHubAssignment": "TRUE",
            "migrateDeviceData": "false",
            "iotEdge": "true",
            "tags": '{"line": 4}',
            "optionalDeviceInformation": "{}",
        },
        {"registrationId": "pump-2", "primaryKey": KEY, "secondaryKey": f" {KEY}"},
        {"registrationId": "pump-3", "endorsementKey": "AAAA", "desiredProperties": '{"a": 1}'},
        {"operation": "disable", "registrationId": "pump-4", "deviceId": "dropped"},
        {"enrollmentGroupId": "plant", "primaryCertificate": ca.pem, "predecessor": "old"},
        {"registrationId": "pump-5", "attestationType": "x509", "provisioningStatus": "disabled"},
        delimiter=delimiter,
    )

    told = read(mark + rows, CSV)

    twin = {"initialTwin": {"tags": {"line": 4}}}
    policy = {"reprovisionPolicy": {"updateHubAssignment": True, "migrateDeviceData": False}}
    first = pinned(
        leaf,
        provisioningStatus="disabled",
        deviceId="pump",
        iotHubs=["a.example", "b.example"],
        allocationPolicy="hashed",
        capabilities={"iotEdge": True},
        optionalDeviceInformation={},
        **twin,
        **policy,
    )
    assert [one.message for one in told] == [
        first,
        {
            "registrationId": "pump-2",
            "attestation": {
                "type": "symmetricKey",
                "symmetricKey": {"primaryKey": KEY, "secondaryKey": f" {KEY}"},
            },
        },
        {
            "registrationId": "pump-3",
            "attestation": {"type": "tpm", "tpm": {"endorsementKey": "AAAA"}},
            "initialTwin": {"properties": {"desired": {"a": 1}}},
        },
        {"registrationId": "pump-4", "deviceId": "dropped"},
        below("plant", ca),
        {
            "registrationId": "pump-5",
            "provisioningStatus": "disabled",
            "attestation": {"type": "x509", "x509": {"clientCertificates": {}}},
        },
    ]
    assert [one.operation for one in told] == [
        "createOrUpdate",
        "create",
        "create",
        "disable",
        "create",
        "create",
    ]
    assert told[4].predecessor == "old"
    # The certificate before it has line ends of its own.
    assert told[1].line == 2 + leaf.pem.count("\n") + 1


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        pytest.param({"registrationId": "a"}, "attestationType is empty", id="no mechanism"),
        pytest.param(
            {"registrationId": "a", "iotEdge": "yes", "primaryKey": KEY}, "iotEdge must be true", id="yes"
        ),
        pytest.param(
            {"registrationId": "a", "tags": "[]", "primaryKey": KEY}, "tags must be a JSON", id="list"
        ),
        pytest.param({"registrationId": "a", "tags": "{", "primaryKey": KEY}, "tags: ", id="broken JSON"),
        pytest.param({"registrationId": "a", "deviceId": "x\x00", "primaryKey": KEY}, "NUL", id="NUL"),
        pytest.param({"registrationId": "a", "primaryCertificate": "a.pem"}, "no ZIP beside", id="no ZIP"),
    ],
)
def test_a_bad_row_is_told(row, sentence):
    (bad,) = read(csv_of(row), CSV)

    assert sentence in bad.sentence


def test_a_row_with_a_bad_cell_is_told_by_the_name_of_its_entry():
    (bad,) = read(csv_of({"registrationId": "pump-1", "iotEdge": "yes", "primaryKey": KEY}), CSV)

    assert bad.name == "pump-1"


def test_a_row_with_more_cells_than_columns_is_told():
    (bad,) = read(b"registrationId,primaryKey\na,b,c\n", CSV)

    assert bad.sentence == "This row has 3 cells, and there are 2 columns."


@pytest.mark.parametrize("text", ["=1+1", "-x", "@x", "'=1", "''+1", "plain", "'plain", "", "\tx", "a=b"])
def test_what_protects_from_formulas_can_be_taken_away(text):
    shown = protected(text)

    assert unprotected(shown) == text
    assert not shown.startswith(("=", "+", "-", "@", "\t", "\r"))


def test_columns_are_those_of_the_page():
    from dpsportal.serving.supervisor import PROJECT_DIR

    page = (PROJECT_DIR / "docs" / "import.md").read_text()

    assert [name for name in COLUMNS if f"`{name}`" not in page] == []


def test_certificates_come_from_a_zip():
    leaf, other = self_signed("pump-1"), self_signed("pump-2")
    archive = zip_of({"certs/pump-1.pem": leaf.pem, "pump-2.der": other.der, "a/x.pem": "x", "b/x.pem": "y"})
    rows = [
        {"registrationId": "pump-1", "primaryCertificate": "pump-1.pem"},
        {"registrationId": "pump-2", "primaryCertificate": "pump-2.der"},
        {"registrationId": "pump-3", "primaryCertificate": "x.pem"},
        {"registrationId": "pump-4", "primaryCertificate": "nowhere.pem"},
        {"registrationId": "pump-5", "primaryCertificate": "../pump-2.der"},
    ]

    one, two, three, four, five = read(csv_of(*rows), CSV, archive)

    assert certificate_in(one) == leaf.pem
    assert certificate_in(two).encode() == __import__("base64").b64encode(other.der)
    assert "several folders" in three.sentence
    assert "no file 'nowhere.pem'" in four.sentence
    assert "no file '../pump-2.der'" in five.sentence


def certificate_in(record):
    return record.message["attestation"]["x509"]["clientCertificates"]["primary"]["certificate"]


@pytest.mark.parametrize("where", ["line", "zip", "zip in DER"])
def test_a_private_key_is_refused_before_anything_is_kept(where):
    leaf = self_signed("pump-1")
    key = leaf.key_pem
    if where == "zip in DER":
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        key = leaf.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    line = pinned(leaf)
    pair = line["attestation"]["x509"]["clientCertificates"]["primary"]
    pair["certificate"] = leaf.pem + key if where == "line" else "pump-1.pem"

    (bad,) = read(json_lines(line), JSON, zip_of({"pump-1.pem": key}))

    assert "private key" in bad.sentence
    assert "BEGIN" not in bad.sentence


@pytest.mark.parametrize(
    "damage", ["no zip", "cut off", "encrypted", "bomb", "twice", "huge directory", "lies"]
)
def test_an_archive_that_is_not_what_it_should_be_is_refused(damage, monkeypatch):
    content = zip_of({"a.pem": self_signed("a").pem})
    if damage == "no zip":
        content = b"nothing"
    elif damage == "cut off":
        content = content[:-30]
    elif damage == "encrypted":
        content = content.replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01")
    elif damage == "bomb":
        content = zip_of({"a.pem": b"0" * 50_000_000})
    elif damage == "twice":
        content = two_of_one_name()
    elif damage == "huge directory":
        end = content.rfind(b"PK\x05\x06")
        content = content[: end + 12] + struct.pack("<I", 2**31) + content[end + 16 :]
    elif damage == "lies":
        # Stored sizes of 10 bytes, for what unpacks to more.
        content = zip_of({"a.pem": b"0" * 200_000})
        directory = content.rfind(b"PK\x01\x02")
        content = content[: directory + 24] + struct.pack("<I", 10) + content[directory + 28 :]

    with pytest.raises((ArchiveRefused, MemberRefused)) as refused:
        Archive(io.BytesIO(content)).read("a.pem")

    assert len(refused.value.message) < 200


def two_of_one_name():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.pem", "x")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.pem", "y")
    return packed.getvalue()


def test_everything_unpacked_together_is_bounded(monkeypatch):
    monkeypatch.setattr("enrollments.transfer.archive.MAX_EXPANDED_BYTES", 100)
    archive = Archive(io.BytesIO(zip_of({"a.pem": "x" * 60, "b.pem": "x" * 60})))

    archive.read("a.pem")
    with pytest.raises(ArchiveRefused, match="together"):
        archive.read("b.pem")


def test_a_zip_with_many_files_is_read(tmp_path):
    """More than 65,535 files stand in the larger form of the directory."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for number in range(65_600):
            archive.writestr(f"{number}.pem", "x")

    assert Archive(packed).read("65599.pem") == b"x"
