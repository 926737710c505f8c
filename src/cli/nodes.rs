//! `kademlua nodes`: the nodes of this user that run.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::control::{Answer, Ask, Look, NodeView};
use crate::net::door::{AttachError, Greeting, Met, Role, all};
use crate::shell::{escape_json, escape_lines, kilobytes_of, say};

/// A node that does not describe itself within this time is listed without details.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What `nodes` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Each with its address, contacts, the nodes that it estimates the network to have, the memory of its process \
in kilobytes, how long it has run, and whether it has a shell or only serves. One that was started with \
--no-control is not listed.")]
pub(super) struct Arguments {
    /// Show each as a line of JSON
    #[arg(long)]
    json: bool,
}

/// A line of the list.
#[derive(Debug, Default, Serialize)]
struct ListedNode {
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    contacts: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    estimate: Option<f64>,
    /// Memory of its process, in kilobytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<f64>,
    /// Its uptime in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    uptime: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<Role>,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<u32>,
    socket: String,
    /// Why there are no more details.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// Lists them.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let nodes = all(|_| true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let rows = runtime.block_on(async {
        // All nodes are asked before the first answer is awaited.
        let asked: Vec<_> = nodes.into_iter().map(|met| tokio::spawn(row(met))).collect();
        let mut rows = Vec::new();
        for row in asked {
            rows.extend(row.await.ok().flatten());
        }
        rows
    });
    if arguments.json {
        for row in rows {
            say(escape_json(&serde_json::to_value(row)?))?;
        }
        return Ok(());
    }
    if rows.is_empty() {
        say("no node of yours runs here")?;
        return Ok(());
    }
    say(format_args!(
        "{:<21} {:<40} {:>8} {:>8} {:>9} {:>8}  {}",
        "address", "id", "contacts", "estimate", "kilobytes", "uptime", "role"
    ))?;
    rows.iter().try_for_each(|row| say(line(row)))?;
    Ok(())
}

/// The line of a node; `None` if the node is gone.
async fn row(Met { socket, node }: Met) -> Option<ListedNode> {
    let mut row = ListedNode { socket: socket.display().to_string(), ..ListedNode::default() };
    let attached = match node {
        Ok(attached) => attached,
        Err(AttachError::Gone(_)) => return None,
        Err(error) => return Some(ListedNode { problem: Some(error.to_string()), ..row }),
    };
    let Greeting { role, contact, .. } = *attached.greeting();
    row.role = Some(role);
    row.address = Some(contact.address.ip().to_string());
    row.port = Some(contact.address.port());
    row.id = Some(contact.id.to_string());
    row.process = attached.process();
    row.memory = row.process.map(kilobytes_of);
    match tokio::time::timeout(ANSWER_WITHIN, attached.ask(Ask::Look(Look::Node))).await {
        Ok(Ok(Answer::Node(view))) => {
            let NodeView { snapshot, .. } = *view;
            row.contacts = Some(snapshot.v1().contacts);
            row.estimate = Some(snapshot.v1().estimate);
            row.uptime = Some(snapshot.uptime.as_millis_f64() / 1e3);
        }
        Ok(Ok(_)) => unreachable!("the answer is read as that to what was asked"),
        Ok(Err(problem)) => row.problem = Some(problem.to_string()),
        Err(_) => row.problem = Some("it does not answer".to_owned()),
    }
    Some(row)
}

fn line(row: &ListedNode) -> String {
    let place = match (&row.address, row.port) {
        (Some(address), Some(port)) if address.contains(':') => format!("[{address}]:{port}"),
        (Some(address), Some(port)) => format!("{address}:{port}"),
        _ => row.socket.clone(),
    };
    let problem = row.problem.as_deref().map(|problem| format!("  {problem}")).unwrap_or_default();
    let (Some(contacts), Some(estimate), Some(uptime)) = (row.contacts, row.estimate, row.uptime)
    else {
        return escape_lines(&format!("{place:<21}{problem}"));
    };
    let id = row.id.as_deref().unwrap_or_default();
    let role = row.role.map_or("", Role::name);
    let memory = row.memory.unwrap_or_default();
    let uptime = span(uptime);
    format!("{place:<21} {id:<40} {contacts:>8} {estimate:>8.0} {memory:>9.0} {uptime:>8}  {role}")
}

/// A span of time in its two largest units.
fn span(seconds: f64) -> String {
    let seconds = seconds as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{minutes}m{:02}s", seconds % 60),
        3_600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn spans_are_told_in_two_units() {
        for (seconds, text) in
            [(0.9, "0s"), (59.9, "59s"), (61.0, "1m01s"), (7_199.0, "1h59m"), (90_000.0, "1d01h")]
        {
            assert_eq!(span(seconds), text);
        }
    }
}
