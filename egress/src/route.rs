//! Which way a connection goes: what the policy wants seen, against what the connection turned out to be.

use crate::defence::Defence;
use crate::verdict::{Inspect, Speech};

/// Which way a connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Bytes are passed on as they are.
    Pass,
    /// Every request is judged.
    Requests,
    /// TLS ends here, and every request in it is judged.
    Intercept,
    /// Nowhere.
    Refuse,
}

impl Route {
    /// The way of a connection to `port` that turned out to be `speech`; `None` if nobody looked.
    pub fn of(inspect: Inspect, port: u16, speech: Option<Speech>) -> Self {
        if Defence::Speech.is_off() {
            return Self::Pass;
        }
        let Some(speech) = speech else {
            return if inspect == Inspect::Nothing { Self::Pass } else { Self::Refuse };
        };
        match (inspect, speech) {
            _ if !inspect.lets_pass(port, speech) => Self::Refuse,
            (Inspect::Nothing, _) => Self::Pass,
            (_, Speech::Http) => Self::Requests,
            (Inspect::Requests, Speech::Tls) => Self::Intercept,
            (_, Speech::Tls | Speech::Other) => Self::Pass,
        }
    }

    /// Whether a connection that goes this way may go on under a policy that would send it `now`: it is looked at no less
    /// closely than that.
    pub fn satisfies(self, now: Self) -> bool {
        match now {
            Self::Pass => true,
            Self::Requests | Self::Intercept => self == now,
            Self::Refuse => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_goes_the_way_that_the_policy_wants() {
        use Inspect::{Http, Names, Nothing, Requests, Tls};
        use Speech::Other;
        let cases = [
            (Nothing, 443, None, Route::Pass),
            (Nothing, 443, Some(Other), Route::Pass),
            (Names, 443, None, Route::Refuse),
            (Names, 443, Some(Speech::Tls), Route::Pass),
            (Names, 443, Some(Speech::Http), Route::Refuse),
            (Names, 443, Some(Other), Route::Refuse),
            (Names, 80, Some(Speech::Http), Route::Requests),
            (Names, 80, Some(Speech::Tls), Route::Refuse),
            (Names, 80, Some(Other), Route::Refuse),
            (Names, 22, Some(Other), Route::Pass),
            (Names, 8080, Some(Speech::Http), Route::Requests),
            (Names, 8443, Some(Speech::Tls), Route::Pass),
            (Tls, 8443, Some(Speech::Tls), Route::Pass),
            (Tls, 8443, Some(Speech::Http), Route::Refuse),
            (Tls, 8443, Some(Other), Route::Refuse),
            (Http, 8443, Some(Speech::Tls), Route::Pass),
            (Http, 8443, Some(Speech::Http), Route::Requests),
            (Http, 8443, Some(Other), Route::Refuse),
            (Requests, 443, Some(Speech::Tls), Route::Intercept),
            (Requests, 80, Some(Speech::Http), Route::Requests),
            (Requests, 22, Some(Other), Route::Refuse),
            (Requests, 443, None, Route::Refuse),
        ];
        for (inspect, port, speech, route) in cases {
            assert_eq!(Route::of(inspect, port, speech), route, "{inspect:?} {port} {speech:?}");
        }
    }

    #[test]
    fn what_was_looked_at_more_closely_may_stay() {
        for open in [Route::Pass, Route::Requests, Route::Intercept] {
            assert!(open.satisfies(Route::Pass) && open.satisfies(open) && !open.satisfies(Route::Refuse));
        }
        assert!(!Route::Pass.satisfies(Route::Requests) && !Route::Pass.satisfies(Route::Intercept));
        assert!(!Route::Requests.satisfies(Route::Intercept));
    }
}
