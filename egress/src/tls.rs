//! What has to be known of TLS without speaking it.

pub mod client_hello;
