"""How much of a file is looked at. What is larger is refused before it is parsed."""

KIB, MIB = 1024, 1024 * 1024

MAX_LINES = 250_000
MAX_LIST_BYTES = 512 * MIB
# One line of a list: an entry with two certificates and a twin, in quotes.
MAX_LINE_BYTES = 192 * KIB
# Lines that are one record of a CSV file: certificates have line ends of their own.
MAX_RECORD_BYTES = 256 * KIB
MAX_ARCHIVE_BYTES = 256 * MIB
# What ZIP calls the central directory. It is read into memory, some ten times as large.
MAX_DIRECTORY_BYTES = 16 * MIB
MAX_MEMBERS = 250_000
MAX_EXPANDED_BYTES = 1024 * MIB
# Groups are rehearsed and written one by one.
MAX_GROUPS = 2_000
# Lines that are carried out in one transaction: devices wait that long where there is one writer at a time. Less than a
# tenth of a second where the lines add devices, a quarter where they change some; longer where they are about groups,
# which go one by one.
CHUNK_LINES = 500
CHUNK_BYTES = 2 * MIB
# The pieces in which a browser sends a file.
PART_BYTES = 512 * KIB
