//! The constants of a node, each with its default and where that comes from.
//!
//! "Paper" is Maymounkov and Mazières, *Kademlia: A Peer-to-peer Information System Based on the
//! XOR Metric* (IPTPS 2002).

use crate::time::Duration;

/// Settings of a node; [`Config::default`] is right for ordinary use.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Contacts in a bucket, contacts in an answer, and holders of a value. Paper §2.2.
    pub k: usize,
    /// Queries of a lookup under way at once. Paper §2.3.
    pub alpha: usize,
    /// Bits of the way to a target that any node's table is good for: buckets without the own id are
    /// cut into parts, 2 to the power of one less, of k contacts each. Paper §4.2, where it is b.
    pub split_bits: u32,
    /// Disjoint paths of a lookup: how many sets of nodes it asks that learn nothing from each other,
    /// so that liars on one lead no other astray. S/Kademlia (Baumgart and Mies, ICPADS 2007) §4.4.
    /// More cost more messages; one is the lookup of the paper.
    pub paths: usize,
    /// Contacts of one /24 of IPv4, or /64 or /56 of IPv6, in a bucket, and among the k nearest that a
    /// lookup asks: many addresses there cost one owner little. Of a /48 it is twice as many, and in the
    /// whole table three times. Loopback and private ranges are exempt where the node itself lives in
    /// them; k or more is no limit.
    pub max_per_subnet: usize,
    /// A reply is never given up earlier, however fast the network seems: one late scheduler or
    /// one retransmission below us must not look like a dead node.
    pub rpc_timeout_min: Duration,
    /// A reply is never awaited longer; as long as an original node waits.
    pub rpc_timeout_max: Duration,
    /// A value is forgotten this long after it was last published. Paper §2.3.
    pub expire: Duration,
    /// A holder passes its values on to the k nodes then closest this often. Paper §2.5.
    pub republish: Duration,
    /// A bucket in which nothing was looked up for so long is refreshed. Paper §2.3.
    pub refresh: Duration,
    /// A contact that was not heard of for so long is asked whether it is there; zero for never. BEP 5
    /// calls it questionable after five times as long; but whoever looks at a lab expects a node that is
    /// gone to leave the table within minutes. It costs at most 20 pings an hour and contact, half of them
    /// by the other.
    pub check: Duration,
    /// Off loopback, one of the nearest contacts is asked this often under which address it sees this
    /// node; zero for never. Less than a minute, after which some NATs forget a mapping, even if one is
    /// lost. It costs 180 packets an hour, and as many answers.
    pub keepalive: Duration,
    /// Contacts that wait for a place in each full bucket: one full set to replace another.
    /// Paper §4.1.
    pub replacements: usize,
    /// Largest value in encoded bytes: with its frame it still fits the 16,384 bytes of a datagram
    /// that an original node reads.
    pub max_value_bytes: usize,
    /// Values under one key: a meeting place of hundreds, five times what one answer can carry. One
    /// address with its network may have a tenth of the places, stores without a token a quarter
    /// together.
    pub max_values_per_key: usize,
    /// Values that one address, or on loopback one port, may keep here, its own and those that it
    /// passes on; without a token as many again. What they take together is limited by its share of
    /// the store too, which large values use up first.
    pub max_values_per_owner: usize,
    /// Memory for values in all, keys and bookkeeping included, as it is used, within a tenth: small
    /// beside any machine's. One address with its network may have a tenth of it, stores without a
    /// token a quarter together; the node's own values may have all.
    pub max_store_bytes: usize,
    /// Pings a second that one source, an IPv4 address or a /64 of IPv6, may send besides answers to what
    /// it was asked, and as much else as takes the node the same time: half as many findnodes, or a
    /// hundred values of 16 kB that are dear to read; 0 for any. A /24 or a /56 gets one and a half
    /// times, a /48 twice as much. By default some 5 % of one core, and a thousand times what an ordinary
    /// node needs for a lookup a second. Loopback is exempt.
    pub source_rate: u64,
    /// The same for what all sources ask together, 0 for any; when it is used up by half, the rest is
    /// for those whose address is validated. By default a quarter of what one core can answer. Loopback is
    /// exempt.
    pub total_rate: u64,
    /// Whether a store from an address that is not proved is refused if its sender knows of no write
    /// tokens, as originals do not: off, lest they be shut out.
    pub require_tokens: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            k: 20,
            alpha: 3,
            split_bits: 1,
            paths: 1,
            max_per_subnet: 3,
            rpc_timeout_min: Duration::from_millis(250),
            rpc_timeout_max: Duration::from_millis(1_500),
            expire: Duration::from_secs(24 * 3_600),
            republish: Duration::from_secs(3_600),
            refresh: Duration::from_secs(3_600),
            check: Duration::from_secs(180),
            keepalive: Duration::from_secs(20),
            replacements: 20,
            max_value_bytes: 16_000,
            max_values_per_key: 512,
            max_values_per_owner: 4_096,
            max_store_bytes: 64 << 20,
            source_rate: 20_000,
            total_rate: 100_000,
            require_tokens: false,
        }
    }
}

/// Why a setting was not taken.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// There is no setting of that name.
    #[error("no setting is called '{0}'")]
    Unknown(String),
    /// The value is outside of what makes sense.
    #[error("{name}: expected {expected}, got {got}")]
    OutOfRange {
        /// The setting.
        name: &'static str,
        /// What it takes.
        expected: &'static str,
        /// What came.
        got: f64,
    },
}

impl Config {
    /// The names that [`Config::set`] takes.
    pub const NAMES: [&'static str; 20] = [
        "k",
        "alpha",
        "split_bits",
        "paths",
        "max_per_subnet",
        "rpc_timeout_min",
        "rpc_timeout_max",
        "expire",
        "republish",
        "refresh",
        "check",
        "keepalive",
        "replacements",
        "max_value_bytes",
        "max_values_per_key",
        "max_values_per_owner",
        "max_store_bytes",
        "source_rate",
        "total_rate",
        "require_tokens",
    ];

    /// Sets a constant by its name; spans of time are in seconds, fractions allowed.
    ///
    /// # Errors
    /// If the name is none of [`Config::NAMES`] or the value is out of range.
    pub fn set(&mut self, name: &str, value: f64) -> Result<(), ConfigError> {
        // k is also how many contacts an answer may carry on the wire.
        match name {
            "k" => self.k = count("k", "a whole number from 1 to 20", value, 20.0)?,
            "alpha" => self.alpha = count("alpha", "a whole number from 1 to 64", value, 64.0)?,
            "split_bits" => {
                let expected = "a whole number from 1 to 5";
                self.split_bits = count("split_bits", expected, value, 5.0)? as u32;
            }
            "paths" => self.paths = count("paths", "a whole number from 1 to 20", value, 20.0)?,
            "max_per_subnet" => {
                let expected = "a whole number from 1 to 20";
                self.max_per_subnet = count("max_per_subnet", expected, value, 20.0)?;
            }
            "rpc_timeout_min" => self.rpc_timeout_min = span("rpc_timeout_min", value)?,
            "rpc_timeout_max" => self.rpc_timeout_max = span("rpc_timeout_max", value)?,
            "expire" => self.expire = span("expire", value)?,
            "republish" => self.republish = span("republish", value)?,
            "refresh" => self.refresh = span("refresh", value)?,
            "check" => self.check = span_or_never("check", value)?,
            "keepalive" => self.keepalive = span_or_never("keepalive", value)?,
            "replacements" => self.replacements = size("replacements", value)?,
            "max_value_bytes" => {
                let expected = "a whole number from 1 to 16000";
                self.max_value_bytes = count("max_value_bytes", expected, value, 16_000.0)?;
            }
            "max_values_per_key" => self.max_values_per_key = size("max_values_per_key", value)?,
            "max_values_per_owner" => {
                self.max_values_per_owner = size("max_values_per_owner", value)?;
            }
            "max_store_bytes" => self.max_store_bytes = size("max_store_bytes", value)?,
            "source_rate" => self.source_rate = rate("source_rate", value)?,
            "total_rate" => self.total_rate = rate("total_rate", value)?,
            "require_tokens" => self.require_tokens = flag("require_tokens", value)?,
            _ => return Err(ConfigError::Unknown(name.to_owned())),
        }
        Ok(())
    }

    /// Whether a node can run with these settings: fields may hold what [`Config::set`] refuses.
    ///
    /// # Errors
    /// If one is out of the range that [`Config::set`] takes.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut taken = Config::default();
        Config::NAMES
            .into_iter()
            .zip(self.values())
            .try_for_each(|(name, value)| taken.set(name, value))
    }

    /// The settings as [`Config::set`] takes them, in the order of [`Config::NAMES`].
    fn values(&self) -> [f64; Config::NAMES.len()] {
        let seconds = |span: Duration| span.as_micros() as f64 / 1e6;
        [
            self.k as f64,
            self.alpha as f64,
            f64::from(self.split_bits),
            self.paths as f64,
            self.max_per_subnet as f64,
            seconds(self.rpc_timeout_min),
            seconds(self.rpc_timeout_max),
            seconds(self.expire),
            seconds(self.republish),
            seconds(self.refresh),
            seconds(self.check),
            seconds(self.keepalive),
            self.replacements as f64,
            self.max_value_bytes as f64,
            self.max_values_per_key as f64,
            self.max_values_per_owner as f64,
            self.max_store_bytes as f64,
            self.source_rate as f64,
            self.total_rate as f64,
            f64::from(u8::from(self.require_tokens)),
        ]
    }
}

fn count(
    name: &'static str,
    expected: &'static str,
    value: f64,
    max: f64,
) -> Result<usize, ConfigError> {
    if value.fract() == 0.0 && (1.0..=max).contains(&value) {
        Ok(value as usize)
    } else {
        Err(ConfigError::OutOfRange { name, expected, got: value })
    }
}

/// Events a second; 0 is no limit.
fn rate(name: &'static str, value: f64) -> Result<u64, ConfigError> {
    if value == 0.0 {
        return Ok(0);
    }
    Ok(count(name, "a whole number from 0 to 1e6", value, 1e6)? as u64)
}

fn size(name: &'static str, value: f64) -> Result<usize, ConfigError> {
    count(name, "a whole number from 1 to 1e12", value, 1e12)
}

fn flag(name: &'static str, value: f64) -> Result<bool, ConfigError> {
    match value {
        0.0 => Ok(false),
        1.0 => Ok(true),
        _ => Err(ConfigError::OutOfRange { name, expected: "0 or 1", got: value }),
    }
}

/// A span of time; 0 is never.
fn span_or_never(name: &'static str, value: f64) -> Result<Duration, ConfigError> {
    match value {
        0.0 => Ok(Duration::ZERO),
        _ if (1.0..=1e9).contains(&value) => span(name, value),
        _ => Err(ConfigError::OutOfRange { name, expected: "0, or 1 to 1e9 seconds", got: value }),
    }
}

fn span(name: &'static str, value: f64) -> Result<Duration, ConfigError> {
    if (0.001..=1e9).contains(&value) {
        Ok(Duration::from_micros((value * 1e6) as u64))
    } else {
        Err(ConfigError::OutOfRange { name, expected: "0.001 to 1e9 seconds", got: value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value that a setting takes and that is not its default.
    fn other(name: &str) -> f64 {
        if name == "require_tokens" { 1.0 } else { 4.0 }
    }

    #[test]
    fn every_name_sets_a_constant_of_its_own() {
        let mut set = Config::default();
        for name in Config::NAMES {
            let before = set.clone();
            set.set(name, other(name)).unwrap();
            assert_ne!(set, before, "{name} changes nothing");
        }
    }

    #[test]
    fn a_check_reads_back_what_was_set_and_finds_what_could_not_be() {
        assert_eq!(Config::default().check(), Ok(()));
        for (index, name) in Config::NAMES.into_iter().enumerate() {
            let mut config = Config::default();
            config.set(name, other(name)).unwrap();
            assert_eq!(config.values()[index], other(name), "{name}");
        }
        let no_pause = Config { republish: Duration::ZERO, ..Config::default() };
        let error = no_pause.check().unwrap_err();
        assert!(matches!(error, ConfigError::OutOfRange { name: "republish", .. }), "{error}");
    }

    #[test]
    fn nonsense_is_refused_and_changes_nothing() {
        let mut config = Config::default();
        for (name, value) in [
            ("k", 0.0),
            ("k", 21.0),
            ("alpha", 2.5),
            ("expire", f64::NAN),
            ("require_tokens", 0.5),
            ("require_tokens", 2.0),
        ] {
            assert!(config.set(name, value).is_err(), "{name} = {value}");
        }
        assert_eq!(config.set("kk", 1.0), Err(ConfigError::Unknown("kk".into())));
        assert_eq!(config, Config::default());
    }
}
