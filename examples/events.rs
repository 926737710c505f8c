//! Watching a node: contacts that come and go, and each packet, as they happen.
//!
//! ```sh
//! cargo run --example events --no-default-features
//! ```

use std::error::Error;

use kademlua::control::{Filter, Sight};
use kademlua::net::{Settings, spawn};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let bind = "127.0.0.1:0".parse()?;
    let watched = spawn(Settings { bind, ..Settings::default() })?;
    let bootstrap = vec![watched.local_addr().into()];

    // 1. A tap tells everything from now on. It never holds the node up: a reader that is too slow
    //    loses some, and `losses` counts them.
    let mut tap = watched.tap().await?;
    // 2. The same as people see it: packets decoded, with the question to each answer. The shell shows
    //    them in this form, and it can be serialised.
    let mut readings = watched.readings(Filter::default()).await?;

    let joins = spawn(Settings { bind, bootstrap, ..Settings::default() })?;
    let contact = loop {
        match tap.next().await {
            Some(Sight::ContactAdded(_, contact)) => break contact,
            Some(Sight::Packet(packet)) => {
                println!("{:?} {} bytes, {}", packet.direction, packet.bytes.len(), packet.peer);
            }
            Some(Sight::ContactLost(..)) => {}
            None => return Err("the node has stopped".into()),
        }
    };
    println!("new contact: {contact:?}");
    assert_eq!(contact, joins.contact());

    for _ in 0..4 {
        let reading = readings.next().await.ok_or("the node has stopped")?;
        println!("{}", serde_json::to_string(&reading)?);
    }
    println!("{} lost", tap.losses().count());

    joins.stop().await;
    watched.stop().await;
    Ok(())
}
