//! How the machine's network is to be set up, as the launcher or the command line says.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};

/// What is known of the network when the machine boots. The default asks the network for everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The machine's addresses, each with the length of its network's prefix in bits.
    pub addresses: Vec<(IpAddr, u8)>,
    /// The default router of each family, where known.
    pub routers: Vec<IpAddr>,
    /// Servers of names, the preferred one first.
    pub name_servers: Vec<IpAddr>,
    /// Where the machine that runs this one is reached: `host.localhost`. None: the router.
    pub host: Option<IpAddr>,
    /// Whether to ask a DHCP server for an IPv4 address, a router and name servers.
    pub dhcp: bool,
    /// Whether to take an IPv6 address and a router from router advertisements (RFC 4862).
    pub advertisements: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            addresses: Vec::new(),
            routers: Vec::new(),
            name_servers: Vec::new(),
            host: None,
            dhcp: true,
            advertisements: true,
        }
    }
}

impl Settings {
    /// What the launcher says: an address with the length of its prefix (`10.0.2.15/24`), the router, the name server,
    /// and where the machine that runs this one is reached. Fails with what is wrong, in one line.
    pub fn from_launcher(address: &str, gateway: &str, nameserver: &str, host: &str) -> Result<Settings, String> {
        let parse = |text: &str, what: &str| {
            text.parse::<IpAddr>().map_err(|_| format!("the launcher's {what} {text:?} is not an address"))
        };
        let (own, prefix) = address.split_once('/').ok_or_else(|| format!("{address:?} has no /PREFIX"))?;
        let own = parse(own, "address")?;
        let longest = if own.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= longest);
        Ok(Settings {
            addresses: [(own, prefix.ok_or_else(|| format!("{address:?} has no /PREFIX up to {longest}"))?)].into(),
            routers: [parse(gateway, "gateway")?].into(),
            name_servers: [parse(nameserver, "nameserver")?].into(),
            host: Some(parse(host, "host")?),
            dhcp: false,
            advertisements: true,
        })
    }

    /// What the word `ip=` of a kernel's command line asks for, in the form of Linux (its Documentation/admin-guide/nfs/
    /// nfsroot.rst): `dhcp`, `off`, or `ADDRESS:SERVER:ROUTER:MASK:NAME:DEVICE:METHOD:DNS:DNS`, where what follows
    /// MASK may be left out and SERVER, NAME and DEVICE mean nothing here. Fails with what is wrong, in one line.
    pub fn from_ip_word(value: &str) -> Result<Settings, String> {
        match value {
            "dhcp" | "on" | "any" => return Ok(Settings::default()),
            "off" | "none" => {
                return Ok(Settings { dhcp: false, ..Settings::default() });
            }
            _ => {}
        }
        let wrong = |what: &str| format!("ip={value}: {what}; write ip=ADDRESS::ROUTER:MASK or ip=dhcp");
        let fields: Vec<&str> = value.split(':').collect();
        let field = |index: usize| fields.get(index).copied().unwrap_or("");
        let address = |index: usize, what: &str| match field(index) {
            "" => Ok(None),
            text => match text.parse::<Ipv4Addr>() {
                Ok(address) => Ok(Some(address)),
                Err(_) => Err(wrong(&format!("{what} {text:?} is not an IPv4 address"))),
            },
        };
        let own = address(0, "the address")?.ok_or_else(|| wrong("there is no address"))?;
        if !usable(own) {
            return Err(wrong("no machine can have that address"));
        }
        let mask = address(3, "the mask")?.ok_or_else(|| wrong("there is no mask"))?;
        let prefix = mask.to_bits().leading_ones();
        if prefix != mask.to_bits().count_ones() {
            return Err(wrong("the mask has gaps"));
        }
        let router = address(2, "the router")?;
        let name_servers = [address(7, "the name server")?, address(8, "the name server")?];
        Ok(Settings {
            addresses: [(own.into(), prefix as u8)].into(),
            routers: router.into_iter().map(IpAddr::from).collect(),
            name_servers: name_servers.into_iter().flatten().map(IpAddr::from).collect(),
            dhcp: false,
            ..Settings::default()
        })
    }
}

/// Whether a machine can have the address.
pub(super) fn usable(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_multicast() || address.is_broadcast() || address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_router_and_mask_is_taken_as_linux_takes_it() {
        let settings = Settings::from_ip_word("172.16.0.2::172.16.0.1:255.255.255.252::eth0:off:1.1.1.1").unwrap();
        assert_eq!(settings.addresses, [(IpAddr::from([172, 16, 0, 2]), 30)]);
        assert_eq!(settings.routers, [IpAddr::from([172, 16, 0, 1])]);
        assert_eq!(settings.name_servers, [IpAddr::from([1, 1, 1, 1])]);
        assert!(!settings.dhcp);
    }

    #[test]
    fn the_launchers_addresses_are_taken() {
        let settings = Settings::from_launcher("10.0.2.15/24", "10.0.2.2", "10.0.2.3", "10.0.2.2").unwrap();
        assert_eq!(settings.addresses, [(IpAddr::from([10, 0, 2, 15]), 24)]);
        assert_eq!(settings.host, Some(IpAddr::from([10, 0, 2, 2])));
        for address in ["10.0.2.15", "10.0.2.15/33", "10.0.2.15/x", "10.0.2/24", "10.0.2.15/-1"] {
            assert!(Settings::from_launcher(address, "10.0.2.2", "10.0.2.3", "10.0.2.2").is_err(), "{address}");
        }
    }

    #[test]
    fn the_router_may_be_left_out() {
        assert!(Settings::from_ip_word("10.1.2.3:::255.0.0.0").unwrap().routers.is_empty());
    }

    #[test]
    fn dhcp_and_off_are_words_of_their_own() {
        assert_eq!(Settings::from_ip_word("dhcp"), Ok(Settings::default()));
        assert!(!Settings::from_ip_word("off").unwrap().dhcp);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (value, reason) in [
            ("", "there is no address"),
            ("10.0.0.1", "there is no mask"),
            ("10.0.0.1:::255.0.255.0", "the mask has gaps"),
            ("10.0.0.300:::255.0.0.0", "the address \"10.0.0.300\" is not an IPv4 address"),
            ("10.0.0.1::x:255.0.0.0", "the router \"x\" is not an IPv4 address"),
            ("224.0.0.1:::255.0.0.0", "no machine can have that address"),
        ] {
            let said = Settings::from_ip_word(value).unwrap_err();
            assert!(said.contains(reason), "{said}");
        }
    }
}
