//! What texts look like, as JSON Schema says it to editors. `resolve` checks the same and more, and says what to write
//! instead; that neither refuses what the other takes is what `tests/agreement.rs` is for.
//!
//! No look-ahead and no `\p`: validators differ in them. A text with a variable in it is taken where variables are filled
//! in: what it comes to is only known then.

/// [`crate::Name`].
pub(super) const NAME: &str = "^[a-z](-?[a-z0-9])+$";

/// The name of a variable, or of a parameter.
pub(super) const VARIABLE: &str = "^[A-Za-z_][A-Za-z0-9_]*$";

/// A login name.
pub(super) const LOGIN: &str = "^[a-z_][a-z0-9_-]{0,31}$";

/// Whose a sandbox is: one line, not endless.
pub(super) const OWNER: &str = r"^[^\u0000-\u001f\u007f-\u009f]{1,63}$|\$\{";

/// Text on one line.
pub(super) const LINE: &str = r"^[^\u0000-\u001f\u007f-\u009f]+$|\$\{";

/// Blanks and nothing else.
pub(super) const BLANK: &str = r"^\s+$";

/// Names of sandboxes, with stars.
pub(super) const GLOB: &str = "^[a-z0-9*-]+$";

/// A path of the host: absolute, relative, or below the caller's home; other users' homes are not expanded.
pub(super) const HOST_PATH: &str = r"^([^~]|~$|~/|~\$\{)";

/// A path inside: absolute.
pub(super) const INSIDE_PATH: &str = r"^(/|~$|~/|~?\$\{)";

/// An entry of `/etc`: relative.
pub(super) const ETC: &str = "^[^/~]";

/// `[registry[:port]/]path[:tag][@digest]`.
pub(super) const REFERENCE: &str = r"^((localhost|[A-Za-z0-9][A-Za-z0-9-]*\.[A-Za-z0-9.-]*|[A-Za-z0-9][A-Za-z0-9.-]*:[0-9]+)/)?[a-z0-9]([a-z0-9._/-]*[a-z0-9])?(:[A-Za-z0-9_][A-Za-z0-9._-]*)?(@[A-Za-z0-9+._-]+:[0-9A-Fa-f]{32,})?$|\$\{";

/// A CDI name, or a path below `/dev`.
pub(super) const DEVICE: &str =
    r"^(/dev/.|[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_-]*=[A-Za-z0-9][A-Za-z0-9_.:-]*$)|\$\{";

/// A capability, with `CAP_` before it or not, in upper or lower case.
pub(super) const CAPABILITY: &str = "^[A-Za-z_]+$";

/// Where git finds a repository.
pub(super) const REPOSITORY: &str = r"^([^~-]|~$|~/|~\$\{)";

/// A branch, as far as single characters decide it.
pub(super) const BRANCH: &str = r"^[^\s~^:?*\[\\-][^\s~^:?*\[\\]*$|\$\{";

/// More than nothing, in bytes.
pub(super) const SIZE: &str = r"^(0*[1-9][0-9]*(\.[0-9]+)?|0+\.0*[1-9][0-9]*)([KMGT](iB)?|B)?$";

/// [`SIZE`], or none at all.
pub(super) const CEILING: &str = r"^((0*[1-9][0-9]*(\.[0-9]+)?|0+\.0*[1-9][0-9]*)([KMGT](iB)?|B)?|unlimited)$";

/// A number of CPUs, from a hundredth of one to 8192.
pub(super) const CPUS: &str = r"^(0*([1-9][0-9]{0,2}|[1-7][0-9]{3}|80[0-9]{2}|81[0-8][0-9]|819[01])(\.[0-9]+)?|0*8192(\.0+)?|0+\.0?[1-9][0-9]*|unlimited)$";

/// More than no time, or `never`.
pub(super) const LIFETIME: &str = "^((0+[smhdw])*0*[1-9][0-9]*[smhdw]([0-9]+[smhdw])*|never)$";

/// More than no time.
pub(super) const DURATION: &str = r"^(0+[smhdw])*0*[1-9][0-9]*[smhdw]([0-9]+[smhdw])*$|\$\{";

/// A day.
pub(super) const DATE: &str = "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$";

macro_rules! address {
    () => {
        r"([0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9A-Fa-f.]*:[0-9A-Fa-f:.]+)"
    };
}

/// An address.
pub(super) const ADDRESS: &str = concat!("^", address!(), r"$|\$\{");

/// An address, with brackets or without, or a range of addresses.
pub(super) const RANGE: &str = concat!(r"^(\[[0-9A-Fa-f:.]+\]|", address!(), r"(/[0-9]{1,3})?)$|\$\{");

/// An HTTP proxy.
pub(super) const HTTP_PROXY: &str = r"^(http://)?([^/@:\s]+|\[[0-9A-Fa-f:.]+\]):[0-9]+/?$|\$\{";

/// A SOCKS5 proxy.
pub(super) const SOCKS5_PROXY: &str = r"^(socks5://)?([^/@:\s]+|\[[0-9A-Fa-f:.]+\]):[0-9]+/?$|\$\{";

/// A target of a test: a URL, with a method before it or not.
pub(super) const TARGET: &str = r"://|\$\{";

macro_rules! port {
    () => {
        "0*([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
    };
}

/// A port, or a range of ports.
pub(super) const PORTS: &str = concat!("^", port!(), "(-", port!(), r")?$|\$\{");

/// An HTTP method.
pub(super) const METHOD: &str = r"^[A-Z0-9!#$%&'*+.^_`|~-]+$|\$\{";

/// A path of a rule.
pub(super) const RULE_PATH: &str = r"^(/|\$\{)";

/// The name of a header, as a key.
pub(super) const HEADER: &str = "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$";

/// The name of a header, in a list.
pub(super) const HEADER_ITEM: &str = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$|\$\{";

/// The value of a header: plain ASCII on one line, without blanks around it.
pub(super) const HEADER_VALUE: &str = r"^([!-~]([\t -~]*[!-~])?)?$|\$\{";
