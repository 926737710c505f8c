//! "Did you mean": the existing name that is nearest to one that does not exist.

use strsim::osa_distance;

/// The candidate that somebody may have meant, as the end of a message; empty if none is near.
pub(crate) fn did_you_mean<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> String {
    let lower = name.to_lowercase();
    let allowed = 1 + name.len() / 4;
    let near = |candidate: &'a str| {
        let distance = osa_distance(&lower, &candidate.to_lowercase());
        let is_near = distance <= allowed && distance < name.len() && candidate != name;
        is_near.then_some((distance, candidate))
    };
    let nearest = candidates.into_iter().filter_map(near).min();
    nearest.map_or_else(String::new, |(_, candidate)| format!("; did you mean '{candidate}'?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_suggested_and_nothing_far() {
        let known = ["findvalue", "findnode", "ping", "node", "net", "k"];
        for (name, expected) in [
            ("finvalue", "; did you mean 'findvalue'?"),
            ("findvlaue", "; did you mean 'findvalue'?"),
            ("FindNode", "; did you mean 'findnode'?"),
            ("nodes", "; did you mean 'node'?"),
            ("pign", "; did you mean 'ping'?"),
            ("findvalue", ""),
            ("x", ""),
            ("something", ""),
            ("", ""),
        ] {
            assert_eq!(did_you_mean(name, known), expected, "{name}");
        }
    }
}
