//! Addresses of this machine, at which whatever listens here is reached without passing what guards it from outside.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::namespace::{self, Outside};
use crate::attach::netlink::Netlink;

/// How long what the kernel said is believed.
const FRESH: Duration = Duration::from_secs(1);

/// Who says which addresses this machine has.
#[derive(Debug, Clone)]
pub enum Interfaces {
    /// The kernel.
    Kernel,
    /// The configuration of a test: these.
    Fixed(Vec<IpNet>),
}

/// Addresses of the interfaces of one network namespace, at most a second old.
#[derive(Debug)]
pub struct Own {
    interfaces: Interfaces,
    read: Mutex<Option<(Instant, Arc<[IpNet]>)>>,
}

/// Addresses of the interfaces here, as networks: of one address each, but of `lo` whatever the kernel takes for its own. Of an
/// IPv6 network its first address is among them, which is that of whoever routes for it.
///
/// # Errors
/// The kernel does not say.
pub fn addresses() -> io::Result<Vec<IpNet>> {
    Netlink::open()?.addresses()
}

impl Own {
    /// As `interfaces` says; nothing is asked yet.
    pub fn new(interfaces: Interfaces) -> Self {
        Self { interfaces, read: Mutex::default() }
    }

    /// None at all: of a machine in a test.
    pub fn nobody() -> Self {
        Self::new(Interfaces::Fixed(Vec::new()))
    }

    /// Those of the namespace we are in.
    pub(crate) fn here(&self) -> io::Result<Arc<[IpNet]>> {
        match self.fresh() {
            Some(fresh) => Ok(fresh),
            None => Ok(self.keep(addresses()?)),
        }
    }

    /// Those of the namespace at `path`.
    pub(super) async fn within(&self, path: &Path) -> Result<Arc<[IpNet]>, Outside> {
        match self.fresh() {
            Some(fresh) => Ok(fresh),
            None => Ok(self.keep(namespace::within(path, addresses).await?)),
        }
    }

    fn fresh(&self) -> Option<Arc<[IpNet]>> {
        if let Interfaces::Fixed(these) = &self.interfaces {
            return Some(these.as_slice().into());
        }
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.as_ref().filter(|(at, _)| at.elapsed() < FRESH).map(|(_, own)| Arc::clone(own))
    }

    fn keep(&self, found: Vec<IpNet>) -> Arc<[IpNet]> {
        let own: Arc<[IpNet]> = found.into();
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), Arc::clone(&own)));
        own
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn the_kernel_says_what_is_ours() {
        let own = addresses().unwrap();
        let ours = |text: &str| own.iter().any(|network| network.contains(&text.parse::<IpAddr>().unwrap()));
        assert!(ours("127.0.0.1") && ours("127.1.2.3"), "{own:?}");
        assert!(!ours("240.0.0.1") && !ours("ff02::1"), "{own:?}");
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        // The address by which this machine would go out, where it can.
        if socket.connect("192.0.2.1:9").is_ok() {
            let out = socket.local_addr().unwrap().ip();
            assert!(ours(&out.to_string()), "{out} {own:?}");
        }
    }
}
