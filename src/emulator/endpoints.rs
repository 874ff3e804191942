//! The endpoints that were given out: one API of one stream each, until they expire.

use std::collections::HashMap;

use super::api::{Api, ENDPOINT_NAMES};
use super::hash;

/// An endpoint that was given out.
#[derive(Debug)]
struct DataEndpoint {
    stream: String,
    api_name: &'static str,
    generation: u64,
}

/// All that were given out.
#[derive(Debug, Default)]
pub(super) struct Endpoints {
    by_token: HashMap<String, DataEndpoint>,
    /// How often the endpoints of a stream's API have expired.
    generations: HashMap<(String, &'static str), u64>,
}

impl Endpoints {
    fn generation(&self, stream: &str, api_name: &'static str) -> u64 {
        self.generations.get(&(stream.to_owned(), api_name)).copied().unwrap_or(0)
    }

    /// Gives out the endpoint of one API of one stream: always the same one, until it expires.
    pub(super) fn give_out(&mut self, seed: u64, stream: &str, api_name: &'static str) -> String {
        let generation = self.generation(stream, api_name);
        let token = format!("{:016x}", hash::of(&(seed, stream, api_name, generation)));
        let endpoint = DataEndpoint { stream: stream.to_owned(), api_name, generation };
        self.by_token.insert(token.clone(), endpoint);
        token
    }

    /// Whether a call came to an endpoint that is for it and has not expired.
    pub(super) fn serves(&self, token: Option<&str>, api: Api, stream: &str) -> bool {
        token.and_then(|token| self.by_token.get(token)).is_some_and(|endpoint| {
            endpoint.stream == stream
                && ENDPOINT_NAMES.contains(&(endpoint.api_name, Some(api)))
                && endpoint.generation == self.generation(stream, endpoint.api_name)
        })
    }

    /// Lets an endpoint expire; one that has expired or was never given out stays as it is.
    pub(super) fn expire(&mut self, token: Option<&str>) {
        let Some(endpoint) = token.and_then(|token| self.by_token.get(token)) else { return };
        let generation = self.generations.entry((endpoint.stream.clone(), endpoint.api_name)).or_default();
        if *generation == endpoint.generation {
            *generation += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expired_endpoint_serves_again_only_when_it_is_asked_for_anew() {
        let mut endpoints = Endpoints::default();
        let first = endpoints.give_out(1, "gate", "GET_CLIP");
        assert_eq!(endpoints.give_out(1, "gate", "GET_CLIP"), first);
        assert!(endpoints.serves(Some(&first), Api::GetClip, "gate"));
        assert!(!endpoints.serves(Some(&first), Api::ListFragments, "gate"));
        assert!(!endpoints.serves(Some(&first), Api::GetClip, "yard"));
        endpoints.expire(Some(&first));
        // Requests that were under way at the same endpoint expire it no further.
        endpoints.expire(Some(&first));
        assert!(!endpoints.serves(Some(&first), Api::GetClip, "gate"));
        let second = endpoints.give_out(1, "gate", "GET_CLIP");
        assert_ne!(second, first);
        assert!(endpoints.serves(Some(&second), Api::GetClip, "gate"));
        assert!(!endpoints.serves(Some(&first), Api::GetClip, "gate"));
    }
}
