//! Which way a connection goes: what the policy wants seen, against what the connection turned out to be.

use crate::verdict::Inspect;

/// What a connection turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nobody looked, or nothing was there to see yet.
    Unexamined,
    /// Neither TLS nor HTTP.
    Opaque,
    /// TLS for the name it is meant for.
    Tls,
    /// HTTP.
    Http,
}

/// Which way it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Bytes are passed on as they are.
    Pass,
    /// Every request is judged.
    Requests,
    /// TLS ends here, and every request in it is judged.
    Intercept,
    /// Nowhere; why, as records say it.
    Refuse(&'static str),
}

impl Route {
    /// The way of a connection to `port` that turned out to be of `kind`.
    pub fn of(inspect: Inspect, port: u16, kind: Kind) -> Self {
        match (inspect, kind) {
            (Inspect::Nothing, _) => Self::Pass,
            (_, Kind::Unexamined) => Self::Refuse("unexamined"),
            (Inspect::Names, Kind::Tls) if port == 80 => Self::Refuse("not-http"),
            (Inspect::Names, Kind::Http) if port == 443 => Self::Refuse("not-tls"),
            (Inspect::Names, Kind::Opaque) => match port {
                80 => Self::Refuse("not-http"),
                443 => Self::Refuse("not-tls"),
                _ => Self::Pass,
            },
            (Inspect::Names | Inspect::Tls | Inspect::Http, Kind::Tls) => Self::Pass,
            (Inspect::Tls, Kind::Opaque | Kind::Http) => Self::Refuse("not-tls"),
            (Inspect::Names | Inspect::Http | Inspect::Requests, Kind::Http) => Self::Requests,
            (Inspect::Http | Inspect::Requests, Kind::Opaque) => Self::Refuse("not-http"),
            (Inspect::Requests, Kind::Tls) => Self::Intercept,
        }
    }

    /// Whether a connection that goes this way may go on under a policy that would send it `now`: it is looked at no less
    /// closely than that.
    pub fn satisfies(self, now: Self) -> bool {
        match now {
            Self::Pass => true,
            Self::Requests => self == Self::Requests,
            Self::Intercept => self == Self::Intercept,
            Self::Refuse(_) => false,
        }
    }
}
