//! What one sandbox is served by, from one change of its policy to the next.

use std::collections::BTreeMap;
use std::sync::Arc;

use schema::Name;
use schema::policy::Policy;
use secrecy::SecretSlice;

use crate::compiled::Compiled;
use crate::learn;

/// A policy in force, with all it needs. Immutable: a change is another generation, put in place by one pointer swap.
#[derive(Debug)]
pub struct Generation {
    /// Counts from 1 in each daemon and sandbox.
    pub number: u64,
    /// The policy as stored.
    pub policy: Policy,
    /// The same, ready to be asked.
    pub compiled: Compiled,
    /// Values of the secrets that its header edits name. One that is missing makes the requests that need it fail.
    pub secrets: BTreeMap<Name, Arc<SecretSlice<u8>>>,
}

impl Generation {
    /// Prepares `policy`.
    pub fn new(number: u64, policy: Policy, secrets: BTreeMap<Name, Arc<SecretSlice<u8>>>) -> Self {
        let compiled = Compiled::new(&policy);
        Self { number, policy, compiled, secrets }
    }

    /// The same while somebody learns what is needed: allowed is what no deny rule is about. Which addresses are dialled
    /// follows from `policy` itself, as always.
    pub fn learning(number: u64, policy: Policy, secrets: BTreeMap<Name, Arc<SecretSlice<u8>>>) -> Self {
        let compiled = Compiled::new(&learn::opened(&policy));
        Self { number, policy, compiled, secrets }
    }
}
