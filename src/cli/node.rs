//! The arguments that say what node to run, and how they, a configuration and the defaults become
//! its settings.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use tracing_subscriber::fmt::MakeWriter;

use crate::id::Id;
use crate::net::door::Role;
use crate::net::{self, Endpoint, Handle, Settings};
use crate::shell::endpoint_of;
use crate::wire::Dialect;
use crate::xdp::BPFFS;

use super::configuration::Configuration;
use super::log;

/// The port of a network's first node, and of any node that is not told another.
pub(super) const DEFAULT_PORT: u16 = 8001;

/// The arguments about the node that all commands share.
#[derive(Debug, Clone, Args)]
pub(super) struct NodeArguments {
    /// Address to bind
    #[arg(long, value_name = "ADDRESS", value_parser = parse_ip)]
    pub(super) bind: Option<IpAddr>,
    /// Node to join the network through, by address or host name, repeatable; a port alone is one of
    /// 127.0.0.1 [default: 127.0.0.1:8001]
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_endpoint)]
    pub(super) bootstrap: Vec<Endpoint>,
    /// The node's id, 40 hex digits [default: the SHA-1 of the port on loopback, else random]
    #[arg(long, value_name = "HEX")]
    pub(super) id: Option<Id>,
    /// Lua program that sets port, id, bind, bootstrap, control and constants
    #[arg(long, value_name = "FILE.lua", allow_hyphen_values = true)]
    pub(super) config: Option<PathBuf>,
    /// Use the fast path that 'kademlua xdp attach' leaves, now or later
    #[arg(long)]
    pub(super) xdp: bool,
    /// Mount point of the bpf file system, for --xdp
    #[arg(long, value_name = "FOLDER", default_value = BPFFS, hide_default_value = true, allow_hyphen_values = true)]
    pub(super) bpffs: PathBuf,
    /// Folder in which the node keeps its id, contacts and values, to have them when it starts again
    #[arg(long, value_name = "FOLDER", allow_hyphen_values = true)]
    pub(super) state: Option<PathBuf>,
    /// Let no other process of this user attach to the node (kademlua attach, kademlua nodes)
    #[arg(long)]
    pub(super) no_control: bool,
    /// Log filter: error, warn, info, debug, trace, or as in RUST_LOG
    #[arg(long, value_name = "LEVEL")]
    pub(super) log: Option<String>,
    /// How lines of the log look
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text")]
    pub(super) log_format: log::LogFormat,
}

pub(super) fn parse_endpoint(text: &str) -> Result<Endpoint, String> {
    endpoint_of(text).ok_or_else(|| format!("expected HOST:PORT or a port, got '{text}'"))
}

/// An address; IPv6 with or without the brackets that it has in front of a port.
pub(super) fn parse_ip(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let ip = match bare {
        Some(bare) => bare.parse().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    };
    ip.ok_or_else(|| format!("expected an address such as 127.0.0.1 or ::, got '{text}'"))
}

impl NodeArguments {
    /// The settings of the node: the command line first, then the configuration, then defaults. It keeps its
    /// last packets if it has a shell in which somebody can ask for them.
    ///
    /// # Errors
    /// If the configuration is wrong.
    pub(super) fn settings(&self, port: Option<u16>, role: Role) -> anyhow::Result<Settings> {
        let configuration = match &self.config {
            Some(file) => Configuration::read(file)?,
            None => Configuration::default(),
        };
        let address = self.bind.or(configuration.bind).unwrap_or(Ipv4Addr::LOCALHOST.into());
        let port = port.or(configuration.port).unwrap_or(DEFAULT_PORT);
        let given = Some(self.bootstrap.clone()).filter(|given| !given.is_empty());
        let default = || vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), DEFAULT_PORT).into()];
        let id = self.id.or(configuration.id);
        Ok(Settings {
            bind: SocketAddr::new(address, port),
            ids: id.map(|id| (Dialect::V1, id)).into_iter().collect(),
            bootstrap: given.or(configuration.bootstrap).unwrap_or_else(default),
            config: configuration.constants,
            fast_path: self.xdp.then(|| self.bpffs.clone()),
            state: self.state.clone(),
            keeps_packets: role == Role::Shell,
            control: (configuration.control && !self.no_control).then_some(role),
        })
    }

    /// Starts the node.
    ///
    /// # Errors
    /// If the configuration is wrong or the address cannot be bound.
    pub(super) fn start(&self, port: Option<u16>, role: Role) -> anyhow::Result<Handle> {
        let settings = self.settings(port, role)?;
        let bind = settings.bind;
        net::spawn(settings).with_context(|| format!("cannot start a node at {bind}"))
    }

    /// Starts the log, at a level of `default` unless `--log` or `RUST_LOG` says otherwise.
    ///
    /// # Errors
    /// If `--log` cannot be read.
    pub(super) fn start_log<W>(&self, default: &str, writer: W) -> anyhow::Result<()>
    where
        W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
    {
        Ok(log::start(self.log.as_deref(), default, self.log_format, writer)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_with_and_without_brackets() {
        for (text, ip) in [("::", "::"), ("[::]", "::"), ("[::1]", "::1"), ("10.0.0.1", "10.0.0.1")]
        {
            assert_eq!(parse_ip(text), Ok(ip.parse().unwrap()));
        }
        for text in ["", "[10.0.0.1]", "[::", "::]", "localhost", "::1:8001x"] {
            assert!(parse_ip(text).is_err(), "{text}");
        }
    }
}
