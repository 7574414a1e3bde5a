//! The interface's addresses, routes and name servers: those of the settings, DHCP (RFC 2131) and router advertisements.

use super::announce;
use super::state::State;
use crate::host::{log, platform};
use crate::net::settings::usable;
use crate::net::{NetError, Settings};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv6Addr};
use core::time::Duration;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::{dhcpv4, dns};
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr, Ipv4Cidr};

/// How long an address may take to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a DHCP server is looked for.
const DISCOVER: Duration = Duration::from_secs(1);

/// Whether the machine has an address.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Readiness {
    Waiting,
    Ready,
    Failed(NetError),
}

pub(super) struct Addresses {
    dhcp: Option<SocketHandle>,
    readiness: Readiness,
    /// When patience ends.
    deadline: Duration,
    /// Those whose neighbours know of them.
    announced: Vec<IpCidr>,
    mac: EthernetAddress,
}

impl Addresses {
    pub(super) fn new(settings: &Settings, sockets: &mut SocketSet<'static>, mac: EthernetAddress) -> Addresses {
        let dhcp = settings.dhcp.then(|| {
            let mut socket = dhcpv4::Socket::new();
            let mut retry = socket.get_retry_config();
            retry.discover_timeout = DISCOVER.into();
            retry.initial_request_timeout = DISCOVER.into();
            socket.set_retry_config(retry);
            sockets.add(socket)
        });
        let deadline = platform::now() + PATIENCE;
        Addresses { dhcp, readiness: Readiness::Waiting, deadline, announced: Vec::new(), mac }
    }

    /// When `configure` has to look again.
    pub(super) fn deadline(&self) -> Option<Duration> {
        (self.readiness == Readiness::Waiting).then_some(self.deadline)
    }
}

impl State {
    pub(super) fn readiness(&self) -> Readiness {
        self.addresses.readiness.clone()
    }

    /// What is known without asking.
    pub(super) fn set_up(&mut self, settings: &Settings) {
        let link_local = link_local(self.addresses.mac);
        let known = settings.addresses.iter().map(|(address, prefix)| IpCidr::new((*address).into(), *prefix));
        let own: Vec<IpCidr> = core::iter::once(IpCidr::new(link_local.into(), 64)).chain(known).collect();
        self.interface.update_ip_addrs(|addresses| {
            for address in own.into_iter().filter(|address| address.address().is_unicast()) {
                // As many as there is room for, which is eight.
                let _ = addresses.push(address);
            }
        });
        for router in &settings.routers {
            self.set_router(*router);
        }
        self.set_name_servers(settings.name_servers.iter().map(|server| (*server).into()).collect());
    }

    fn set_router(&mut self, router: IpAddr) {
        let routes = self.interface.routes_mut();
        // There is room: one of each family replaces the one before.
        let _ = match router {
            IpAddr::V4(router) => routes.add_default_ipv4_route(router),
            IpAddr::V6(router) => routes.add_default_ipv6_route(router),
        };
    }

    fn set_name_servers(&mut self, servers: Vec<IpAddress>) {
        self.sockets.get_mut::<dns::Socket>(self.dns).update_servers(&servers);
        self.addresses_changed();
    }

    fn addresses_changed(&mut self) {
        self.events += 1;
    }

    /// Takes what DHCP and advertisements have brought, and tells the neighbours.
    pub(super) fn configure(&mut self, now: Duration) {
        self.configure_dhcp();
        let current: Vec<IpCidr> = self.interface.ip_addrs().to_vec();
        if current != self.addresses.announced {
            for address in current.iter().filter(|address| !self.addresses.announced.contains(address)) {
                announce::announce(&mut *self.device.link, self.addresses.mac, address.address());
            }
            self.addresses.announced = current;
        }
        if self.addresses.readiness == Readiness::Ready {
            return;
        }
        if !self.addresses().is_empty() {
            self.addresses.readiness = Readiness::Ready;
            self.addresses_changed();
        } else if self.addresses.readiness == Readiness::Waiting && now >= self.addresses.deadline {
            let error = NetError::NoAddress(PATIENCE.as_secs());
            log::warning(&alloc::format!("{error}"));
            self.addresses.readiness = Readiness::Failed(error);
            self.addresses_changed();
        }
    }

    fn configure_dhcp(&mut self) {
        let Some(dhcp) = self.addresses.dhcp else {
            return;
        };
        let Some(event) = self.sockets.get_mut::<dhcpv4::Socket>(dhcp).poll() else {
            return;
        };
        let lease = match event {
            dhcpv4::Event::Deconfigured => None,
            dhcpv4::Event::Configured(lease) => Some((lease.address, lease.router, lease.dns_servers.to_vec())),
        };
        match lease {
            Some((address, router, servers)) if usable(address.address()) => {
                self.replace_ipv4(Some(address));
                if let Some(router) = router.filter(|router| usable(*router)) {
                    self.set_router(router.into());
                }
                self.set_name_servers(
                    servers.into_iter().filter(|server| usable(*server)).map(IpAddress::from).collect(),
                );
            }
            _ => {
                self.replace_ipv4(None);
                self.interface.routes_mut().remove_default_ipv4_route();
                if self.addresses.readiness == Readiness::Ready && self.addresses().is_empty() {
                    log::warning("the address of DHCP has expired and was not renewed");
                    self.addresses.readiness = Readiness::Waiting;
                    self.addresses.deadline = platform::now() + PATIENCE;
                    self.addresses_changed();
                }
            }
        }
    }

    fn replace_ipv4(&mut self, by: Option<Ipv4Cidr>) {
        self.interface.update_ip_addrs(|addresses| {
            addresses.retain(|address| !matches!(address, IpCidr::Ipv4(_)));
            if let Some(address) = by {
                // Advertisements may have filled the list.
                if addresses.is_full() {
                    addresses.pop();
                }
                let _ = addresses.push(address.into());
            }
        });
    }

    /// Those that others than the neighbours can reach.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let all = self.interface.ip_addrs().iter().map(|address| IpAddr::from(address.address()));
        all.filter(|address| !matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())).collect()
    }

    /// The default router, that of IPv4 before that of IPv6.
    pub(super) fn router(&self) -> Option<IpAddr> {
        let routes = self.interface.routes();
        let route = routes.get_default_ipv4_route().or_else(|| routes.get_default_ipv6_route())?;
        Some(route.via_router.into())
    }

    /// Whether a packet to the address has somewhere to go.
    pub(super) fn reaches(&mut self, address: IpAddr) -> bool {
        let address = IpAddress::from(address);
        if self.interface.ip_addrs().iter().any(|own| own.contains_addr(&address)) {
            return true;
        }
        let mut routed = false;
        self.interface.routes_mut().update(|routes| {
            routed = routes.iter().any(|route| route.cidr.contains_addr(&address));
        });
        routed
    }
}

/// The address that is made of the link's (RFC 4291, appendix A).
fn link_local(mac: EthernetAddress) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}
