"""Which site refuses what a function frees."""

from pmtutrace.kernel import sites


def test_a_function_frees_for_the_sites_that_name_it():
    owners = {name: (v4.name, v6.name) for name, (v4, v6) in sites.owners().items()}
    assert owners["ip_forward"] == ("ip_forward", "ip_forward")
    assert owners["ip_finish_output_gso"] == ("ip_fragment", "ip_fragment")
    assert owners["xfrm_output_resume"] == ("xfrm4_tunnel_check_size", "xfrm6_tunnel_check_size")


def test_names_are_unique_and_no_two_sites_share_a_version_of_a_function():
    assert len({site.name for site in sites.SITES}) == len(sites.SITES)
    seen = set()
    for site in sites.SITES:
        for name in (site.name, *site.freed_in):
            for version in (4, 6) if site.version is None else (site.version,):
                assert (name, version) not in seen
                seen.add((name, version))
