//! Changes that rules make to headers.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use schema::Name;
use schema::policy::{HeaderEdits, HeaderValue as Written};
use secrecy::{ExposeSecret, SecretSlice};

use super::hop;

/// Values of secrets, by name.
pub(super) type Secrets = BTreeMap<Name, Arc<SecretSlice<u8>>>;

/// Changes that can be made: all that could be wrong with them has been looked at.
#[derive(Debug, Default)]
pub(super) struct Edits {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
}

/// Why changes cannot be made. Never holds a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum EditFault {
    /// There is no value for a secret.
    #[error("secret `{0}`, which the rule writes into header `{1}`, has no value here")]
    Missing(Name, String),
    /// What it holds is no header value.
    #[error("secret `{0}` cannot be written into header `{1}`: it has a line end or another control character")]
    Unwritable(Name, String),
    /// The rule's own text is no header value, or the name none.
    #[error("the rule writes header `{0}`, which cannot be written")]
    Odd(String),
    /// A header that no rule may change.
    #[error("the rule changes header `{0}`, which says where a message goes or ends")]
    Fixed(String),
    /// A secret in a response would enter the sandbox.
    #[error("the rule writes secret `{0}` into a response, where the sandbox would read it")]
    Inside(Name),
}

impl Edits {
    /// Prepares the changes to requests.
    pub(super) fn to_request(edits: &HeaderEdits, secrets: &Secrets) -> Result<Self, EditFault> {
        Self::prepare(edits, &|name, secret| {
            let value = secrets.get(secret).ok_or_else(|| EditFault::Missing(secret.clone(), name.to_owned()))?;
            let mut value = HeaderValue::from_bytes(value.expose_secret())
                .map_err(|_| EditFault::Unwritable(secret.clone(), name.to_owned()))?;
            // Neither printed nor kept in a compression table.
            value.set_sensitive(true);
            Ok(value)
        })
    }

    /// Prepares the changes to responses.
    pub(super) fn to_response(edits: &HeaderEdits) -> Result<Self, EditFault> {
        Self::prepare(edits, &|_, secret| Err(EditFault::Inside(secret.clone())))
    }

    fn prepare(
        edits: &HeaderEdits,
        secret: &dyn Fn(&str, &Name) -> Result<HeaderValue, EditFault>,
    ) -> Result<Self, EditFault> {
        // What nearly every rule says.
        if edits.is_empty() {
            return Ok(Self::default());
        }
        let HeaderEdits { remove, set, add } = edits;
        let name = |name: &String| {
            if !hop::may_change(name) {
                return Err(EditFault::Fixed(name.clone()));
            }
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| EditFault::Odd(name.clone()))
        };
        let write = |(header, written): &(String, Written)| {
            let value = match written {
                Written::Text(text) => HeaderValue::from_str(text).map_err(|_| EditFault::Odd(header.clone()))?,
                Written::Secret(of) => secret(header, of)?,
            };
            Ok((name(header)?, value))
        };
        Ok(Self {
            remove: remove.iter().map(name).collect::<Result<_, _>>()?,
            set: set.iter().map(write).collect::<Result<_, _>>()?,
            add: add.iter().map(write).collect::<Result<_, _>>()?,
        })
    }

    /// Makes the changes: removes, sets, adds.
    pub(super) fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        // Several values for one name are all set: the first takes the place of what was there.
        for (name, _) in &self.set {
            headers.remove(name);
        }
        for (name, value) in self.set.iter().chain(&self.add) {
            headers.append(name, value.clone());
        }
    }

    /// Whether `name` is one that is changed: then it is not taken from trailers either.
    pub(super) fn touches(&self, name: &HeaderName) -> bool {
        self.remove.contains(name) || self.set.iter().chain(&self.add).any(|(changed, _)| changed == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str, value: &str) -> (String, Written) {
        (name.to_owned(), Written::Text(value.to_owned()))
    }

    fn secret(name: &str) -> (String, Written) {
        (name.to_owned(), Written::Secret(Name::new("key").unwrap()))
    }

    fn secrets(value: &[u8]) -> Secrets {
        [(Name::new("key").unwrap(), Arc::new(SecretSlice::from(value.to_vec())))].into()
    }

    #[test]
    fn removes_sets_adds() {
        let edits = HeaderEdits {
            remove: vec!["cookie".into()],
            set: vec![secret("x-api-key"), text("x-two", "a"), text("x-two", "b")],
            add: vec![text("accept", "text/plain")],
        };
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("cookie", "a"),
            ("cookie", "b"),
            ("x-api-key", "mine"),
            ("x-api-key", "too"),
            ("accept", "*/*"),
            ("x", "y"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        Edits::to_request(&edits, &secrets(b"s3cret")).unwrap().apply(&mut headers);
        let values = |name: &str| headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(values("cookie"), [""; 0]);
        assert_eq!(values("x-api-key"), ["s3cret"]);
        assert_eq!(values("x-two"), ["a", "b"]);
        assert_eq!(values("accept"), ["*/*", "text/plain"]);
        assert_eq!(values("x"), ["y"]);
        assert_eq!(format!("{:?}", headers.get("x-api-key").unwrap()), "Sensitive");
    }

    #[test]
    fn faults_name_the_secret_and_never_its_value() {
        let edits = HeaderEdits { set: vec![secret("x-api-key")], ..HeaderEdits::default() };
        let missing = Edits::to_request(&edits, &Secrets::new()).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "secret `key`, which the rule writes into header `x-api-key`, has no value here"
        );
        let two_lines = Edits::to_request(&edits, &secrets(b"one\ntwo")).unwrap_err();
        assert!(!format!("{two_lines} {two_lines:?}").contains("two\""), "{two_lines:?}");
        assert!(matches!(two_lines, EditFault::Unwritable(..)));
        assert!(matches!(Edits::to_response(&edits), Err(EditFault::Inside(_))));
    }

    #[test]
    fn headers_that_frame_are_left_alone() {
        for name in ["host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "sbx-hop"] {
            for edits in [
                HeaderEdits { set: vec![text(name, "x")], ..HeaderEdits::default() },
                HeaderEdits { add: vec![text(name, "x")], ..HeaderEdits::default() },
                HeaderEdits { remove: vec![name.into()], ..HeaderEdits::default() },
            ] {
                let fault = Edits::to_request(&edits, &Secrets::new()).unwrap_err();
                assert_eq!(fault, EditFault::Fixed(name.to_owned()));
            }
        }
    }
}
