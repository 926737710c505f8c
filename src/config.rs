//! The settings of a node: one table of their names, defaults, ranges, units, meanings and sources.
//!
//! [`Config`], its checks, the names that a configuration file and `net{…}` take, `help("settings")`
//! and the list in the README all come from the table below, [`SETTINGS`].
//!
//! "Paper" is Maymounkov and Mazières, *Kademlia: A Peer-to-peer Information System Based on the
//! XOR Metric* (IPTPS 2002).

use std::fmt;

use crate::time::Duration;

/// The largest k: as many contacts as any answer carries, few enough to be sorted without
/// allocating.
pub const MAX_K: usize = 20;

/// The largest value in encoded bytes: with its frame it fits the 16,384 bytes of a datagram that
/// an original node reads.
pub const MAX_VALUE_BYTES: usize = 16_000;

/// What is known of a setting.
#[derive(Debug)]
pub struct Setting {
    /// Its name, in configuration files and in [`Config`].
    pub name: &'static str,
    /// What it means, in sentences.
    pub doc: &'static str,
    /// Where its default comes from; empty where it is this program's own choice.
    pub source: &'static str,
    /// What it takes.
    pub range: Range,
    get: fn(&Config) -> f64,
    set: fn(&mut Config, f64),
}

/// What a setting takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Range {
    /// A whole number, the ends included.
    Count(u64, u64),
    /// A span of time from 1 ms to some thirty years, in seconds, fractions allowed.
    Seconds,
    /// A span of time of at least 1 s in seconds, or 0 for never.
    SecondsOrNever,
    /// 0 for no, 1 for yes.
    Flag,
}

impl Range {
    /// Whether a value lies in it.
    fn contains(self, value: f64) -> bool {
        match self {
            Range::Count(min, max) => {
                value.fract() == 0.0 && (min as f64..=max as f64).contains(&value)
            }
            Range::Seconds => (0.001..=1e9).contains(&value),
            Range::SecondsOrNever => value == 0.0 || (1.0..=1e9).contains(&value),
            Range::Flag => value == 0.0 || value == 1.0,
        }
    }

    /// The unit of the values, empty for numbers of things.
    pub fn unit(self) -> &'static str {
        match self {
            Range::Seconds | Range::SecondsOrNever => "s",
            Range::Count(..) | Range::Flag => "",
        }
    }
}

/// As errors and help say it.
impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Range::Count(min, max) if max < 100_000 => {
                write!(f, "a whole number from {min} to {max}")
            }
            Range::Count(min, max) => write!(f, "a whole number from {min} to {:e}", max as f64),
            Range::Seconds => f.write_str("0.001 to 1e9 seconds"),
            Range::SecondsOrNever => f.write_str("0, or 1 to 1e9 seconds"),
            Range::Flag => f.write_str("0 or 1"),
        }
    }
}

/// A type of the fields of [`Config`].
trait Constant {
    /// From a value within the setting's range.
    fn of(value: f64) -> Self;
    fn value(&self) -> f64;
}

impl Constant for usize {
    fn of(value: f64) -> usize {
        value as usize
    }
    fn value(&self) -> f64 {
        *self as f64
    }
}

impl Constant for u64 {
    fn of(value: f64) -> u64 {
        value as u64
    }
    fn value(&self) -> f64 {
        *self as f64
    }
}

impl Constant for u32 {
    fn of(value: f64) -> u32 {
        value as u32
    }
    fn value(&self) -> f64 {
        f64::from(*self)
    }
}

impl Constant for bool {
    fn of(value: f64) -> bool {
        value != 0.0
    }
    fn value(&self) -> f64 {
        f64::from(u8::from(*self))
    }
}

impl Constant for Duration {
    fn of(value: f64) -> Duration {
        Duration::from_micros((value * 1e6) as u64)
    }
    fn value(&self) -> f64 {
        self.as_micros() as f64 / 1e6
    }
}

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr, $range:expr, $source:literal;)+) => {
        /// Settings of a node; [`Config::default`] is right for ordinary use.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $($(#[doc = $doc])+ #[doc = concat!(" ", $source)] pub $name: $type,)+
        }

        impl Default for Config {
            fn default() -> Config {
                Config { $($name: $default,)+ }
            }
        }

        /// All settings, in the order in which they are shown.
        pub static SETTINGS: &[Setting] = &[$(Setting {
            name: stringify!($name),
            doc: concat!($($doc),+),
            source: $source,
            range: $range,
            get: |config| config.$name.value(),
            set: |config, value| config.$name = Constant::of(value),
        },)+];
    };
}

settings! {
    /// Contacts in a bucket, contacts in an answer, and holders of a value.
    k: usize = 20, Range::Count(1, MAX_K as u64), "Paper §2.2.";

    /// Queries of a lookup under way at once.
    alpha: usize = 3, Range::Count(1, 64), "Paper §2.3.";

    /// Bits of the way to a target that any node's table is good for: buckets without the own id are
    /// cut into 2^(split_bits - 1) parts of k contacts each. The paper calls it b.
    split_bits: u32 = 1, Range::Count(1, 5), "Paper §4.2.";

    /// Disjoint paths of a lookup: sets of nodes that learn nothing from each other, so that liars on
    /// one lead no other astray. More paths cost more messages; one is the lookup of the paper.
    paths: usize = 1, Range::Count(1, 20), "S/Kademlia (Baumgart and Mies, ICPADS 2007) §4.4.";

    /// Contacts of one /24 of IPv4, or /64 or /56 of IPv6, in a bucket, and among the k nearest that a
    /// lookup asks: many addresses there cost one owner little. A /48 may have twice as many, and the
    /// whole table three times. Loopback and private ranges are exempt where the node itself lives in
    /// them; k or more is no limit.
    max_per_subnet: usize = 3, Range::Count(1, 20), "";

    /// A reply is never given up earlier, however fast the network seems: one late scheduler or
    /// one retransmission below us must not look like a dead node.
    rpc_timeout_min: Duration = Duration::from_millis(250), Range::Seconds, "";

    /// A reply is never awaited longer; as long as an original node waits.
    rpc_timeout_max: Duration = Duration::from_millis(1_500), Range::Seconds, "";

    /// A value is forgotten this long after it was last published.
    expire: Duration = Duration::from_secs(24 * 3_600), Range::Seconds, "Paper §2.3.";

    /// A holder passes its values on to the k nodes then closest this often.
    republish: Duration = Duration::from_secs(3_600), Range::Seconds, "Paper §2.5.";

    /// A bucket is refreshed after this long without a lookup in it.
    refresh: Duration = Duration::from_secs(3_600), Range::Seconds, "Paper §2.3.";

    /// A contact that was silent this long is asked whether it is there; 0 for never. BEP 5 calls it
    /// questionable after five times as long; but whoever looks at a lab expects a node that is gone to
    /// leave the table within minutes. It costs at most 20 pings an hour and contact, half of them by the
    /// other.
    check: Duration = Duration::from_secs(180), Range::SecondsOrNever, "";

    /// Off loopback, one of the nearest contacts is asked this often under which address it sees this
    /// node; 0 for never. Less than a minute, after which some NATs forget a mapping, even if one answer
    /// is lost. It costs 180 packets an hour, and as many answers.
    keepalive: Duration = Duration::from_secs(20), Range::SecondsOrNever, "";

    /// Contacts that wait for a place in each full bucket: one full set to replace another.
    replacements: usize = 20, SIZE, "Paper §4.1.";

    /// The largest value in encoded bytes.
    max_value_bytes: usize = MAX_VALUE_BYTES, Range::Count(1, MAX_VALUE_BYTES as u64), "";

    /// Values under one key: a meeting place of hundreds, five times what one answer can carry. One
    /// address with its network may have a tenth of the places, stores without a token a quarter
    /// together.
    max_values_per_key: usize = 512, SIZE, "";

    /// Values that one address, or on loopback one port, may keep here, its own and those that it
    /// passes on; without a token as many again. The address's share of the store limits what they take
    /// together, and large values use it up first.
    max_values_per_owner: usize = 4_096, SIZE, "";

    /// Memory for values in all, keys and bookkeeping included, as it is used, within a tenth: small
    /// beside any machine's. One address with its network may have a tenth of it, stores without a
    /// token a quarter together; the node's own values may have all.
    max_store_bytes: usize = 64 << 20, SIZE, "";

    /// Pings a second that one source, an IPv4 address or a /64 of IPv6, may send besides answers to what
    /// it was asked, and as much else as takes the node the same time: half as many findnodes, or a
    /// hundred values of 16 kB that are dear to read; 0 for any. A /24 or a /56 gets one and a half
    /// times, a /48 twice as much. The default is some 5 % of one core, and a thousand times what an
    /// ordinary node needs for a lookup a second. Loopback is exempt.
    source_rate: u64 = 20_000, RATE, "";

    /// The same for what all sources ask together, 0 for any; when half of it is used up, the rest is
    /// for those whose address is validated. The default is a quarter of what one core can answer.
    /// Loopback is exempt.
    total_rate: u64 = 100_000, RATE, "";

    /// In Mainline: contacts in an answer. Nodes there expect 8.
    mainline_named: usize = 8, Range::Count(1, MAX_K as u64), "BEP 5.";

    /// In Mainline: a peer of a torrent is forgotten this long after it last announced itself. Peers do so
    /// every half hour or more often.
    peer_expire: Duration = Duration::from_secs(45 * 60), Range::Seconds, "";

    /// In Mainline: peers of all torrents in the network of IPv4, and as many in that of IPv6. Each takes
    /// some 300 bytes. One network may have a tenth of the places.
    max_peers: usize = 100_000, SIZE, "";

    /// In Mainline: an item is forgotten this long after it was last put. Whoever put it does so every hour.
    item_expire: Duration = Duration::from_secs(2 * 3_600), Range::Seconds, "BEP 44.";

    /// In Mainline: items in the network of IPv4, and as many in that of IPv6. Each takes some 500 bytes and
    /// its value, which is no longer than 1,000. One network may bring a tenth of them.
    max_items: usize = 10_000, SIZE, "";

    /// Whether a store is refused if it comes from an address that is not validated and its sender
    /// knows of no write tokens, as originals do not. Off, lest they be shut out.
    require_tokens: bool = false, Range::Flag, "";
}

/// Of things that memory bounds.
const SIZE: Range = Range::Count(1, 1_000_000_000_000);

/// A second; 0 is no limit.
const RATE: Range = Range::Count(0, 1_000_000);

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
        expected: Range,
        /// What came.
        got: f64,
    },
    /// Two settings contradict each other.
    #[error(
        "{low} is {low_value} and {high} is {high_value}, but {low} may not exceed {high}: {why}"
    )]
    Contradiction {
        /// The setting that is too large.
        low: &'static str,
        /// Its value.
        low_value: f64,
        /// The setting that is too small.
        high: &'static str,
        /// Its value.
        high_value: f64,
        /// What would happen.
        why: &'static str,
    },
}

/// Pairs of settings of which the first may not exceed the second, and why.
const ORDERED: &[(&str, &str, &str)] =
    &[("rpc_timeout_min", "rpc_timeout_max", "no reply could be awaited")];

impl Setting {
    /// The setting of that name.
    pub fn named(name: &str) -> Option<&'static Setting> {
        SETTINGS.iter().find(|setting| setting.name == name)
    }

    /// Its value, as [`Config::set`] takes it.
    pub fn value(&self, config: &Config) -> f64 {
        (self.get)(config)
    }

    /// The value it has if nobody sets it.
    pub fn default_value(&self) -> f64 {
        self.value(&Config::default())
    }

    fn set(&self, config: &mut Config, value: f64) -> Result<(), ConfigError> {
        if !self.range.contains(value) {
            let (name, expected) = (self.name, self.range);
            return Err(ConfigError::OutOfRange { name, expected, got: value });
        }
        (self.set)(config, value);
        Ok(())
    }
}

impl Config {
    /// Sets one by its name; spans of time are in seconds, fractions allowed. What two settings say
    /// together is left to [`Config::check`], because they come one after the other.
    ///
    /// # Errors
    /// If no setting has that name, or the value is out of its range.
    pub fn set(&mut self, name: &str, value: f64) -> Result<(), ConfigError> {
        let setting = Setting::named(name).ok_or_else(|| ConfigError::Unknown(name.to_owned()))?;
        setting.set(self, value)
    }

    /// Whether a node can run with these settings: fields may hold what [`Config::set`] refuses, and
    /// two settings may contradict each other.
    ///
    /// # Errors
    /// The first setting that is out of its range, or else the first two that contradict each other.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut taken = Config::default();
        SETTINGS.iter().try_for_each(|setting| setting.set(&mut taken, setting.value(self)))?;
        ORDERED.iter().try_for_each(|&(low, high, why)| {
            let value = |name| Setting::named(name).map_or(f64::NAN, |one| one.value(self));
            let (low_value, high_value) = (value(low), value(high));
            if low_value <= high_value {
                return Ok(());
            }
            Err(ConfigError::Contradiction { low, low_value, high, high_value, why })
        })
    }
}

/// The names of all settings, separated by commas.
pub fn names() -> String {
    SETTINGS.iter().map(|setting| setting.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value that a setting takes and that is not its default.
    fn other(setting: &Setting) -> f64 {
        if setting.range == Range::Flag { 1.0 } else { 4.0 }
    }

    #[test]
    fn every_name_sets_a_constant_of_its_own() {
        let mut set = Config::default();
        for setting in SETTINGS {
            let before = set.clone();
            set.set(setting.name, other(setting)).unwrap();
            assert_ne!(set, before, "{} changes nothing", setting.name);
            assert_eq!(setting.value(&set), other(setting), "{}", setting.name);
        }
    }

    #[test]
    fn every_default_lies_in_its_range_and_contradicts_no_other() {
        assert_eq!(Config::default().check(), Ok(()));
        for setting in SETTINGS {
            assert!(setting.range.contains(setting.default_value()), "{}", setting.name);
            assert!(setting.doc.trim().ends_with('.'), "{}", setting.name);
        }
    }

    #[test]
    fn a_field_that_no_name_could_have_set_is_found() {
        let no_pause = Config { republish: Duration::ZERO, ..Config::default() };
        let error = no_pause.check().unwrap_err();
        assert!(matches!(error, ConfigError::OutOfRange { name: "republish", .. }), "{error}");
    }

    #[test]
    fn settings_that_contradict_each_other_are_named_together() {
        for &(low, high, why) in ORDERED {
            let mut config = Config::default();
            config.set(low, 9_000.0).unwrap();
            config.set(high, 8_000.0).unwrap();
            let error = config.check().unwrap_err().to_string();
            let expected = format!("{low} is 9000 and {high} is 8000, but {low} may not exceed");
            assert!(error.starts_with(&expected) && error.ends_with(why), "{error}");
            config.set(high, 9_000.0).unwrap();
            assert_eq!(config.check(), Ok(()), "{low} and {high} may be equal");
        }
    }

    /// `UPDATE_GOLDEN=1 cargo test --lib config` writes it.
    #[test]
    fn the_readme_lists_every_setting_with_its_default() {
        let (begin, end) = ("made from src/config.rs -->\n", "<!-- settings end -->");
        let row = |setting: &Setting| {
            let (default, unit) = (setting.default_value(), setting.range.unit());
            let default = format!("{default} {unit}");
            format!("| `{}` | {} | {} |\n", setting.name, default.trim(), setting.range)
        };
        let rows: String = SETTINGS.iter().map(row).collect();
        let list = format!("| setting | default | takes |\n|---|---|---|\n{rows}");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        let readme = std::fs::read_to_string(path).unwrap();
        let (before, rest) = readme.split_once(begin).expect("where the list begins");
        let (_, after) = rest.split_once(end).expect("where it ends");
        let made = format!("{before}{begin}{list}{end}{after}");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, &made).unwrap();
        }
        let readme = std::fs::read_to_string(path).unwrap();
        assert!(readme == made, "README.md does not list the settings as they are");
    }

    #[test]
    fn nonsense_is_refused_and_changes_nothing() {
        let mut config = Config::default();
        for (name, value) in [
            ("k", 0.0),
            ("k", 21.0),
            ("alpha", 2.5),
            ("alpha", f64::INFINITY),
            ("expire", f64::NAN),
            ("expire", -1.0),
            ("source_rate", -1.0),
            ("check", 0.5),
            ("keepalive", -1.0),
            ("require_tokens", 0.5),
            ("require_tokens", 2.0),
        ] {
            assert!(config.set(name, value).is_err(), "{name} = {value}");
        }
        assert_eq!(config.set("kk", 1.0), Err(ConfigError::Unknown("kk".into())));
        assert_eq!(config, Config::default());
    }

    #[test]
    fn ranges_read_as_people_write_them() {
        assert_eq!(Range::Count(1, 20).to_string(), "a whole number from 1 to 20");
        assert_eq!(RATE.to_string(), "a whole number from 0 to 1e6");
        assert_eq!(SIZE.to_string(), "a whole number from 1 to 1e12");
    }
}
