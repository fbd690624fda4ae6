//! Defences that tests can turn off, one by one, to see that what tries to get out gets out then, and devices that they can
//! have the kernel lack.
//!
//! Without the feature `failpoints`, which nothing that is shipped has, every one of them stands, and the compiler knows.

/// One thing that stands between a sandbox and what it may not reach.
///
/// Several may stand in the way of the same attempt; then none of them alone lets it through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Defence {
    /// TCP and DNS come to us, wherever they were meant to go.
    Redirect,
    /// What is neither for us nor for a peer is refused.
    Filter,
    /// The same holds for IPv6.
    Ipv6,
    /// Peers come in at the ports that are declared, and no others.
    Inbound,
    /// PID 1 waits until its policy is in force.
    Gate,
    /// Names that the policy does not allow do not exist.
    Names,
    /// Names have addresses, and no records of other types.
    RecordTypes,
    /// Few clients at once keep a connection to the resolver.
    DnsClients,
    /// Hosts and ports are judged by the policy's rules.
    Rules,
    /// There are sockets only for those UDP ports that rules name.
    UdpPorts,
    /// What rules allow, other rules deny.
    Deny,
    /// Rules end on the day that they say.
    Expiry,
    /// The address that a name led to is judged before it is dialled.
    Addresses,
    /// The name in a `ClientHello` is compared, and one that can be read in two ways refused.
    ServerName,
    /// What a connection turns out to speak has to be what its port and rule are for.
    Speech,
    /// The host that a request names is compared.
    Host,
    /// Every request is judged, not only the first one of a connection.
    EveryRequest,
    /// Heads that can be read in two ways are refused.
    Forms,
    /// Paths are compared in their one form.
    CanonicalPath,
    /// Encoded separators are refused where no rule takes them.
    EncodedSeparators,
    /// Methods are compared.
    Method,
    /// Paths are compared.
    Path,
    /// Headers are compared.
    Header,
    /// Connections are upgraded only where a rule says so.
    Upgrade,
    /// HTTP/2 does not begin on a connection of HTTP/1.
    H2c,
    /// Requests that were sent from here are not sent again.
    Loop,
    /// Only the daemon's own user and root give it orders.
    ControlPeer,
}

impl Defence {
    /// All of them.
    pub const ALL: [Self; 27] = [
        Self::Redirect,
        Self::Filter,
        Self::Ipv6,
        Self::Inbound,
        Self::Gate,
        Self::Names,
        Self::RecordTypes,
        Self::DnsClients,
        Self::Rules,
        Self::UdpPorts,
        Self::Deny,
        Self::Expiry,
        Self::Addresses,
        Self::ServerName,
        Self::Speech,
        Self::Host,
        Self::EveryRequest,
        Self::Forms,
        Self::CanonicalPath,
        Self::EncodedSeparators,
        Self::Method,
        Self::Path,
        Self::Header,
        Self::Upgrade,
        Self::H2c,
        Self::Loop,
        Self::ControlPeer,
    ];

    /// Whether a test has turned it off.
    #[cfg(not(feature = "failpoints"))]
    #[inline]
    pub const fn is_off(self) -> bool {
        false
    }
}

/// A kind of device that the dead end of a sandbox can be. A kernel may have been built without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Device {
    /// A dummy device.
    Dummy,
    /// A pair of veth devices.
    Pair,
}

impl Device {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Dummy, Self::Pair];

    /// Refuses where a test has this kernel lack it.
    ///
    /// # Errors
    /// What such a kernel says.
    #[cfg(not(feature = "failpoints"))]
    #[inline]
    pub const fn possible(self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(feature = "failpoints")]
pub use switch::{WITHOUT, turn_off};
#[cfg(feature = "failpoints")]
pub(crate) use switch::{anything, numbers, turn_off_numbers};

#[cfg(feature = "failpoints")]
mod switch {
    use std::sync::atomic::{AtomicU64, Ordering};

    use schema::policy::{HostPattern, PortRange, Protocol, Rule};

    use super::{Defence, Device};

    /// The variable from which a program for tests takes the names of the defences to turn off, with commas between them.
    pub const WITHOUT: &str = "SBX_DAEMON_WITHOUT";

    /// Those of this process: defences from the lowest bit on, devices after them.
    static OFF: AtomicU64 = AtomicU64::new(0);

    impl Defence {
        /// Whether a test has turned it off.
        pub fn is_off(self) -> bool {
            is_off(self.bit())
        }

        const fn bit(self) -> u64 {
            1 << self as u8
        }
    }

    impl Device {
        /// Refuses where a test has this kernel lack it.
        ///
        /// # Errors
        /// What such a kernel says.
        pub fn possible(self) -> std::io::Result<()> {
            if is_off(self.bit()) {
                return Err(std::io::ErrorKind::Unsupported.into());
            }
            Ok(())
        }

        const fn bit(self) -> u64 {
            1 << (Defence::ALL.len() + self as usize)
        }
    }

    fn is_off(bit: u64) -> bool {
        OFF.load(Ordering::Relaxed) & bit != 0
    }

    /// Turns off those whose names `text` has, devices too, for the rest of this process.
    ///
    /// # Errors
    /// The first word that is no name of one.
    pub fn turn_off(text: &str) -> Result<(), String> {
        for word in text.split(',').filter(|word| !word.is_empty()) {
            let defence = Defence::ALL.into_iter().find(|defence| format!("{defence:?}") == word).map(Defence::bit);
            let device = Device::ALL.into_iter().find(|device| format!("{device:?}") == word).map(Device::bit);
            let bit = defence.or(device).ok_or_else(|| format!("{word:?} is no defence"))?;
            OFF.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The rule that nothing is held to without [`Defence::Rules`].
    pub(crate) fn anything() -> Rule {
        Rule {
            ports: PortRange::ALL.to_vec(),
            protocol: Protocol::Tcp,
            encoded_separators: true,
            upgrade: true,
            ..Rule::of(HostPattern::Any)
        }
    }

    /// Those that are off, for a child.
    pub(crate) fn numbers() -> u64 {
        OFF.load(Ordering::Relaxed)
    }

    /// Turns off what is off in a parent.
    pub(crate) fn turn_off_numbers(numbers: u64) {
        OFF.fetch_or(numbers, Ordering::Relaxed);
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn each_has_a_name_and_a_place_of_its_own() {
            let bits = Defence::ALL.into_iter().map(Defence::bit).chain(Device::ALL.into_iter().map(Device::bit));
            assert_eq!(bits.clone().count(), Defence::ALL.len() + Device::ALL.len());
            assert!(bits.clone().all(u64::is_power_of_two));
            assert_eq!(bits.sum::<u64>(), (1 << (Defence::ALL.len() + Device::ALL.len())) - 1);
            assert!(Defence::ALL.into_iter().all(|defence| !defence.is_off()), "nothing else turns one off");
            assert_eq!(turn_off("Nothing"), Err("\"Nothing\" is no defence".to_owned()));
            turn_off("").expect("none");
        }
    }
}
