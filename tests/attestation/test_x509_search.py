"""The search above a leaf (R7): what is met whatever its dates and names, and where the search ends."""

import pytest

from enrollments.attestation.x509 import (
    MAX_HELD,
    MAX_SENT,
    MAX_SIGNATURE_CHECKS,
    ChainGraph,
    InvalidPath,
    NoCertificate,
    PathValidator,
    SearchExhausted,
    TooManyCertificates,
    UnreadableCertificate,
    build_chain_graph,
    read_presented,
)
from enrollments.attestation.x509 import search as search_module
from enrollments.attestation.x509.remembered import Remembered
from tests.certificates import (
    EXPIRED,
    NOW,
    Held,
    Minted,
    as_v1,
    mint,
    new_key,
    root,
    signed_with_sha1,
    spki_with_compressed_point,
    with_key_encoding,
)


def graph_of(*sent: Minted, held: Held | None = None, **options) -> ChainGraph:
    return build_chain_graph(read_presented([one.der for one in sent]), held or Held(), **options)


def meets(graph: ChainGraph, minted: Minted) -> bool:
    """Whether this public key lies on the chain: what bars, if its group is disabled."""
    return minted.parsed.spki_sha256 in graph.key_steps()


class TestPresented:
    def test_leaf_is_the_first(self):
        plant = root("Root A").intermediate("Plant 7")
        device = plant.leaf("pump-042")

        chain = read_presented([device.der, plant.der, plant.der, device.der])

        assert chain.leaf == device.parsed
        assert chain.untrusted_intermediates == (plant.parsed,)

    def test_nothing_is_refused(self):
        with pytest.raises(NoCertificate):
            read_presented([])

    def test_too_many_are_refused_before_any_is_parsed(self):
        with pytest.raises(UnreadableCertificate):
            read_presented([b"not a certificate"] * MAX_SENT)
        with pytest.raises(TooManyCertificates):
            read_presented([b"not a certificate"] * (MAX_SENT + 1))
        with pytest.raises(TooManyCertificates):
            read_presented([b""] * 50)


class TestOrdinaryChain:
    def test_steps_and_issuers(self):
        top = root("Root A")
        plant = top.intermediate("Plant 7")
        device = plant.leaf("pump-042")

        graph = graph_of(device, plant, held=Held(top))

        thumbprints = [one.parsed.thumbprint_sha256 for one in (device, plant, top)]
        assert graph.steps == dict(zip(thumbprints, range(3), strict=True))
        assert graph.issuers == {
            thumbprints[0]: (thumbprints[1],),
            thumbprints[1]: (thumbprints[2],),
            thumbprints[2]: (),
        }
        assert graph.key_steps()[top.parsed.spki_sha256] == 2
        assert graph.checks_used == 2

    def test_costs_one_look_up_when_that_brings_all_of_a_key(self):
        top = root("Root A")
        plant = top.intermediate("Plant 7")
        held = Held(top, same_key_included=True)

        graph = graph_of(plant.leaf("pump-042"), plant, held=held, same_key_included=True)

        assert meets(graph, top)
        assert held.calls == 1

    def test_costs_two_look_ups_otherwise(self):
        top = root("Root A")
        plant = top.intermediate("Plant 7")
        held = Held(top)

        assert meets(graph_of(plant.leaf("pump-042"), plant, held=held), top)
        assert held.calls == 2

    def test_nothing_is_asked_twice(self):
        top = root("Root A")
        line = top.intermediate("Plant 7").intermediate("Line 3")
        held = Held(top, line.issuer, line)

        graph = graph_of(line.leaf("pump-042"), held=held)

        assert meets(graph, top)
        assert len(held.asked) == len(set(held.asked))

    def test_stranger_meets_nobody(self):
        top = root("Root A")

        graph = graph_of(mint("pump-042"), held=Held(top))

        assert len(graph.certificates) == 1
        assert graph.checks_used == 0


class TestBars:
    """Each of these keys would be that of a disabled group."""

    @pytest.mark.parametrize(
        "options",
        [
            pytest.param({}, id="in order"),
            pytest.param(EXPIRED, id="expired"),
            pytest.param({"key_cert_sign": False}, id="may not sign"),
            pytest.param({"basic_constraints": False}, id="no CA"),
            pytest.param({"path_length": 0}, id="path too long"),
            pytest.param({"key": "RSA 1024"}, id="weak key"),
            pytest.param({"key": "secp256k1"}, id="curve that no path accepts"),
            pytest.param({"key": "Ed25519"}, id="Ed25519"),
        ],
    )
    def test_root_is_met_whatever_is_wrong_with_it(self, options):
        disabled = root("Root A", **options)
        plant = disabled.intermediate("Plant 7")

        assert meets(graph_of(plant.leaf("pump-042"), plant, held=Held(disabled)), disabled)

    @pytest.mark.parametrize("change", [as_v1, signed_with_sha1], ids=["v1", "SHA-1"])
    def test_root_is_met_over_an_intermediate_that_no_path_accepts(self, change):
        disabled = root("Root A")
        plant = disabled.intermediate("Plant 7")

        assert meets(graph_of(plant.leaf("pump-042"), change(plant), held=Held(disabled)), disabled)

    def test_intermediate_reissued_under_another_name_with_the_same_key(self):
        top = root("Root A")
        disabled = top.intermediate("Plant 7")
        renamed = disabled.reissued("Fresh Plant")
        device = renamed.leaf("pump-042")

        graph = graph_of(device, renamed, held=Held(top, disabled))

        assert PathValidator(graph, NOW).shortest_valid_path(top.parsed)
        assert meets(graph, disabled)

    def test_key_written_in_another_way_is_the_same_key(self):
        top = root("Root A")
        disabled = top.intermediate("Plant 7")
        device = disabled.leaf("pump-042")
        disguised = with_key_encoding(disabled, spki_with_compressed_point(disabled.key))

        assert disguised.der != disabled.der
        assert meets(graph_of(device, disguised, held=Held(top)), disabled)

    def test_cross_signed_by_a_disabled_root(self):
        enabled, disabled = root("Root A"), root("Root B")
        plant = enabled.intermediate("Plant 7")
        crossed = plant.cross_signed_by(disabled)
        device = plant.leaf("pump-042")

        for sent, held in (
            ([device, plant, crossed], [enabled, disabled]),
            ([device, plant], [enabled, disabled, crossed]),
        ):
            graph = graph_of(*sent, held=Held(*held))
            assert PathValidator(graph, NOW).shortest_valid_path(enabled.parsed)
            assert meets(graph, disabled)

    def test_cross_certificate_is_found_by_its_key_under_another_name(self):
        enabled, disabled = root("Root A"), root("Root B")
        plant = enabled.intermediate("Plant 7")
        crossed = mint("Plant Seven", key=plant.key, issuer=disabled, ca=True, subject_key_id=b"else")

        graph = graph_of(plant.leaf("pump-042"), plant, held=Held(enabled, disabled, crossed))

        assert meets(graph, disabled)
        assert graph.steps[crossed.parsed.thumbprint_sha256] == graph.steps[plant.parsed.thumbprint_sha256]

    def test_disabled_root_above_an_enrolled_intermediate(self):
        """The library's verifier stops at the first anchor; the search does not."""
        disabled = root("Root A")
        enabled = disabled.intermediate("Plant 7")

        graph = graph_of(enabled.leaf("pump-042"), held=Held(disabled, enabled))

        assert len(PathValidator(graph, NOW).shortest_valid_path(enabled.parsed)) == 2
        assert meets(graph, disabled)

    def test_renamed_root_is_met_by_the_key_identifier(self):
        old = root("Root A")
        plant = old.intermediate("Plant 7")
        disabled = old.reissued("Root B")

        graph = graph_of(plant.leaf("pump-042"), plant, held=Held(disabled))

        assert meets(graph, disabled)
        with pytest.raises(InvalidPath):
            PathValidator(graph, NOW).shortest_valid_path(disabled.parsed)

    def test_root_with_another_kind_of_key_identifier_is_met_all_the_same(self):
        old = root("Root A")
        plant = old.intermediate("Plant 7")
        disabled = old.reissued(subject_key_id=b"counted otherwise")

        assert meets(graph_of(plant.leaf("pump-042"), plant, held=Held(disabled)), disabled)

    def test_root_is_met_by_its_name_alone_though_no_key_identifier_fits(self):
        old = root("Root A", subject_key_id=b"counted one way")
        plant = old.intermediate("Plant 7")
        disabled = old.reissued(subject_key_id=b"counted otherwise")

        assert meets(graph_of(plant.leaf("pump-042"), plant, held=Held(disabled)), disabled)

    def test_key_of_a_ca_used_by_a_device(self):
        top = root("Root A")
        disabled = top.intermediate("Plant 7")
        device = root("Root B").leaf("pump-042", key=disabled.key)

        graph = graph_of(device, held=Held(top, disabled))

        assert graph.key_steps()[disabled.parsed.spki_sha256] == 0
        assert meets(graph, top)

    def test_ca_with_the_name_but_not_the_key_is_not_met(self):
        top = root("Root A")
        namesake = root("Root A")

        assert not meets(graph_of(top.leaf("pump-042"), held=Held(top, namesake)), namesake)


class TestHostile:
    def test_forged_intermediates_before_the_true_one_change_nothing(self):
        top = root("Root A")
        plant = top.intermediate("Plant 7")
        key_id = bytes.fromhex(plant.parsed.subject_key_id)
        forged = [
            mint(subject=plant.certificate.subject, ca=True, subject_key_id=key_id)
            for _ in range(MAX_SENT - 2)
        ]
        device = plant.leaf("pump-042")

        graph = graph_of(device, *forged, plant, held=Held(top))

        assert len(PathValidator(graph, NOW).shortest_valid_path(top.parsed)) == 3
        assert len(graph.certificates) == 3

    def test_former_keys_of_one_name_cost_no_signature_checks(self):
        """Roll-overs of one CA, told apart by their key identifiers, do not use the budget up."""
        generations = [root("Root A") for _ in range(MAX_SIGNATURE_CHECKS + 1)]
        device = generations[30].leaf("pump-042")

        graph = graph_of(device, held=Held(*generations))

        assert graph.checks_used == 2
        assert meets(graph, generations[30])

    def test_loop_ends(self):
        a, b = root("A"), root("B")
        sent = [a.leaf("pump-042"), a.cross_signed_by(b), b.cross_signed_by(a)]

        graph = graph_of(*sent)

        assert len(graph.certificates) == 3
        with pytest.raises(InvalidPath):
            PathValidator(graph, NOW).shortest_valid_path(root("A").parsed)

    def test_mesh_runs_out(self):
        keys = [new_key() for _ in range(10)]
        cas = [mint(f"CA {number}", key=key, ca=True) for number, key in enumerate(keys)]
        crossed = [a.cross_signed_by(b) for a in cas for b in cas if a is not b]
        device = cas[0].leaf("pump-042")

        with pytest.raises(SearchExhausted, match="signature checks"):
            graph_of(device, held=Held(*crossed))

    def test_budget_is_the_number_of_signatures_checked(self, monkeypatch):
        checks = []
        real = search_module.is_signed_by

        def counted(child, key):
            checks.append(child)
            return real(child, key)

        monkeypatch.setattr(search_module, "is_signed_by", counted)
        monkeypatch.setattr(search_module, "_SIGNATURES", Remembered(most=1))
        namesakes = [root("Root A", subject_key_id=False) for _ in range(MAX_SIGNATURE_CHECKS - 1)]
        device = namesakes[-1].leaf("pump-042")

        # One for each namesake, and one to see that the issuer has signed itself.
        graph = graph_of(device, held=Held(*namesakes))
        assert graph.checks_used == len(checks) == MAX_SIGNATURE_CHECKS

        checks.clear()
        with pytest.raises(SearchExhausted):
            graph_of(device, held=Held(root("Root A", subject_key_id=False), *namesakes))
        assert len(checks) == MAX_SIGNATURE_CHECKS

    def test_budget_is_used_up_by_what_was_checked_before_too(self):
        """Else the answer for one chain would depend on which others had been shown."""
        namesakes = [root("Root A", subject_key_id=False) for _ in range(MAX_SIGNATURE_CHECKS)]
        device = namesakes[-1].leaf("pump-042")

        for _ in range(2):
            with pytest.raises(SearchExhausted):
                graph_of(device, held=Held(*namesakes))

    def test_one_check_for_each_child_and_key(self):
        top = root("Root A")
        reissues = [top.reissued() for _ in range(20)]

        assert graph_of(top.leaf("pump-042"), held=Held(top, *reissues)).checks_used == 1

    def test_more_held_certificates_than_anybody_can_look_at(self):
        top = root("Root A")
        few = [top.reissued() for _ in range(MAX_HELD - 1)]

        assert len(graph_of(top.leaf("pump-042"), held=Held(top, *few)).certificates) == MAX_HELD + 1
        with pytest.raises(SearchExhausted, match="256"):
            graph_of(top.leaf("pump-042"), held=Held(top, *few, top.reissued()))

    def test_depth_is_refused_rather_than_cut_off(self):
        """Cut off at eight, a disabled root nine signatures above would not be met."""
        disabled = issuer = root("Root A")
        cas = [issuer := issuer.intermediate(f"CA {number}") for number in range(8)]
        device = issuer.leaf("pump-042")

        assert meets(graph_of(cas[-2].leaf("pump-042"), held=Held(disabled, *cas)), disabled)
        with pytest.raises(SearchExhausted, match="8 signatures"):
            graph_of(device, held=Held(disabled, *cas))


def test_library_takes_the_longest_way_through_a_mesh_and_we_the_shortest():
    top = root("Root A")
    cas = [top.intermediate(f"CA {number}") for number in range(3)]
    crossed = [a.cross_signed_by(b) for a in cas for b in cas if a is not b]
    device = cas[0].leaf("pump-042")

    graph = graph_of(device, *crossed, *cas, held=Held(top))

    assert len(PathValidator(graph, NOW).shortest_valid_path(top.parsed)) == 3


def test_mesh_without_a_valid_path_is_refused_within_bounds():
    top = root("Root A", **EXPIRED)
    cas = [root(f"CA {number}", key=new_key()) for number in range(5)]
    crossed = [a.cross_signed_by(b) for a in cas for b in cas if a is not b]
    last = cas[-1].cross_signed_by(top)
    graph = graph_of(cas[0].leaf("pump-042"), held=Held(top, last, *crossed))

    with pytest.raises(InvalidPath, match="expired"):
        PathValidator(graph, NOW).shortest_valid_path(top.parsed)
