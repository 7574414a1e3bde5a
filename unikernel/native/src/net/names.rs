//! Names whose addresses are known without asking anyone.

use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The name of the machine that runs this one.
pub const HOST: &str = "host.localhost";

/// The addresses of a name that is an address itself, or this machine (`localhost`, RFC 6761); none
/// for a name that has to be asked for. An IPv6 address may stand in brackets, as in a URL.
pub fn known(name: &str) -> Option<Vec<IpAddr>> {
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    if let Ok(address) = bare.parse() {
        return Some([address].into());
    }
    if name.eq_ignore_ascii_case("localhost") {
        return Some([Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()].into());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_names_of_themselves() {
        assert_eq!(known("10.0.2.2"), Some([Ipv4Addr::new(10, 0, 2, 2).into()].into()));
        assert_eq!(known("[fec0::2]"), Some(["fec0::2".parse().unwrap()].into()));
        assert_eq!(known("fec0::2"), Some(["fec0::2".parse().unwrap()].into()));
    }

    #[test]
    fn other_names_are_not_known() {
        for name in ["example.org", "10.0.2", "", "[", "localhost.example.org", "host.localhost"] {
            assert_eq!(known(name), None, "{name}");
        }
    }

    #[test]
    fn localhost_is_known_in_both_families_and_in_any_case() {
        let both: Vec<IpAddr> = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()].into();
        assert_eq!(known("localhost"), Some(both.clone()));
        assert_eq!(known("LocalHost"), Some(both));
    }
}
