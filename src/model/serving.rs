//! What `emulator` says of itself: where the embedded archive is reached.

use serde::Serialize;

/// The schema of [`Serving`].
pub const EMULATOR_SCHEMA: &str = "kvs-export/emulator/1";

/// Where the embedded archive is reached, or why it is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Serving {
    /// [`EMULATOR_SCHEMA`].
    pub schema: &'static str,
    /// The control plane's URL.
    pub endpoint: Option<String>,
    /// Why it does not serve.
    pub error: Option<String>,
}

impl Serving {
    /// It serves there.
    pub fn at(endpoint: String) -> Self {
        Self { schema: EMULATOR_SCHEMA, endpoint: Some(endpoint), error: None }
    }

    /// It could not begin.
    pub fn refused(error: String) -> Self {
        Self { schema: EMULATOR_SCHEMA, endpoint: None, error: Some(error) }
    }
}
