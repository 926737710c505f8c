//! Where a node is to be found: an address, or a host name that may stand for several.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;

use tokio::time::timeout;

/// Addresses that are taken from one name.
const ADDRESSES_MAX: usize = 16;

/// How long the system may take to resolve a name.
const RESOLVED_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);

/// The longest name (RFC 1035 §2.3.4).
const NAME_MAX: usize = 253;

/// An address, or a host name with a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// The address itself.
    Address(SocketAddr),
    /// A name; all its addresses count.
    Name {
        /// The name, such as `localhost`.
        host: String,
        /// The UDP port at each of them.
        port: u16,
    },
}

impl Endpoint {
    /// All addresses that it stands for. It waits for the system's resolver, on a thread of its own, and
    /// for no longer than ten seconds.
    ///
    /// # Errors
    /// If a name does not resolve.
    pub async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let (host, port) = match self {
            Endpoint::Address(address) => return Ok(vec![*address]),
            Endpoint::Name { host, port } => (host.as_str(), *port),
        };
        let resolved = timeout(RESOLVED_WITHIN, tokio::net::lookup_host((host, port))).await;
        let resolved = resolved.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for address in resolved {
            if addresses.len() < ADDRESSES_MAX && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        match addresses.is_empty() {
            true => Err(io::Error::other("it has no address")),
            false => Ok(addresses),
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Endpoint {
        Endpoint::Address(address)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Address(address) => address.fmt(f),
            Endpoint::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// Neither an address nor a name with a port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected ADDRESS:PORT or HOST:PORT, got '{0}'")]
pub struct NoEndpoint(String);

impl FromStr for Endpoint {
    type Err = NoEndpoint;

    fn from_str(text: &str) -> Result<Endpoint, NoEndpoint> {
        if let Ok(address) = text.parse() {
            return Ok(Endpoint::Address(address));
        }
        let name = || {
            let (host, port) = text.rsplit_once(':')?;
            let port = port.parse().ok().filter(|&port| port != 0)?;
            is_host(host).then(|| Endpoint::Name { host: host.to_owned(), port })
        };
        name().ok_or_else(|| NoEndpoint(text.to_owned()))
    }
}

/// Whether it can be a name: labels with dots between them, the last of which is not a number, lest
/// a mistyped address be looked up.
fn is_host(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_label = |label: &str| !label.is_empty() && label.len() <= 63 && label.bytes().all(fits);
    let name = text.strip_suffix('.').unwrap_or(text);
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= NAME_MAX
        && name.split('.').all(is_label)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_address_and_a_name_has_a_port() {
        for address in ["127.0.0.1:8001", "[::1]:8001"] {
            assert_eq!(address.parse(), Ok(Endpoint::Address(address.parse().unwrap())));
        }
        for (text, host) in [
            ("localhost:8001", "localhost"),
            ("node-1.example.org:8001", "node-1.example.org"),
            ("example.org.:8001", "example.org."),
            ("my_node:8001", "my_node"),
        ] {
            let name = Endpoint::Name { host: host.to_owned(), port: 8001 };
            assert_eq!(text.parse(), Ok(name.clone()));
            assert_eq!(name.to_string(), text);
        }
        let long = format!("{}:1", "a.".repeat(200));
        for text in [
            "",
            ":",
            "localhost",
            "localhost:",
            "localhost:0",
            "localhost:70000",
            ":8001",
            "a..b:1",
            "127.0.0.300:8001",
            "1.2.3:8001",
            "::1:8001",
            "a b:1",
            "a\n:1",
            "ü:1",
            &long,
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_stands_for_all_its_addresses() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let resolve = |text: &str| runtime.block_on(text.parse::<Endpoint>().unwrap().resolve());
        let addresses = resolve("localhost:8001").unwrap();
        assert!(
            addresses.iter().all(|address| address.ip().is_loopback() && address.port() == 8001)
        );
        assert!(!addresses.is_empty());
        assert_eq!(resolve("[::1]:5").unwrap(), ["[::1]:5".parse().unwrap()]);
        // A name that is reserved for this (RFC 6761 §6.4).
        assert!(resolve("nowhere.invalid:8001").is_err());
    }
}
