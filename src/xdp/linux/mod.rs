//! All that speaks to the kernel: `loader` puts programs in and takes them out, `status` reads what they
//! are and have counted, `mirror` is the node's side, `shared` the memory that it shares with the kernel,
//! `hot` the values that are answered from there, `ways` knows where packets to contacts leave, `netlink` asks the kernel for that,
//! `orphans` finds what namespaces that are gone have left, `interface` knows what kind of interface a
//! name is, `pins` where everything is pinned, `trial` runs the programs on single packets, and `frame` makes them.

mod frame;
mod hot;
mod interface;
mod loader;
mod mirror;
mod netlink;
mod orphans;
mod pins;
mod shared;
mod status;
mod trial;
mod ways;

pub use self::frame::udp_frame;
pub use self::loader::{attach, detach, detach_all};
pub(crate) use self::mirror::Mirror;
pub use self::orphans::orphans;
pub use self::status::{found, status};
pub use self::trial::{Trial, Verdict};
