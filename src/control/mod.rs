//! The door of a node, for people and for tools: what can be asked, what is answered, what is told. Plain
//! data, without behaviour.
//!
//! All of it is serialisable, and serialised in one way: the tables of the shell and the lines of `--json`
//! are this data, with these names. Formatting is left to the shell, meaning to the node, and waiting to
//! the loop that drives the node.
//!
//! Read [`Ask`] and [`Answer`] first; [`Command`]s take time, [`Look`]s do not. [`Reading`] is what a packet
//! says, [`Sight`] what there is to see while a node works.

mod answer;
mod ask;
mod command;
mod packet;
mod reading;
mod view;

pub use crate::node::{
    Counters, Delivery, DeliveryOutcome, Event, RouteAttempt, RouteCounters, RouteReport,
    StoreReport,
};
pub use crate::serial::Bytes;

pub use self::answer::{Answer, Bootstrapped, CaptureView, Captured, Ponged, SocketView};
pub use self::ask::{Ask, Capture, Code, INTEGER_MAX, Look, Problem};
pub use self::command::{Command, CommandError, Reply, reply};
pub(crate) use self::packet::PacketRing;
pub use self::packet::{Direction, Packet, RING_BYTES, RING_PACKETS, Sight};
pub use self::reading::{Filter, PacketKind, Reader, Reading};
pub(crate) use self::view::kept;
pub use self::view::{
    BucketSnapshot, CacheView, ContactSnapshot, Costs, EstimateView, FastPathView, LookupView,
    Lookups, NodeView, NumberView, OverlaySnapshot, SampleView, SettingView, Snapshot, StateView,
    StoreView, StoredCounts, TableView, View,
};
