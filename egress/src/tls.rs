//! What has to be known of TLS without speaking it, and what is needed to speak it.

pub mod authority;
pub mod bundle;
pub mod client_hello;
pub mod outbound;
